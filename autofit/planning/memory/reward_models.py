"""What one rank holds of reward models: their weights, and the pass in which they score all answers of a generation."""

from __future__ import annotations

from collections.abc import Iterator

from autofit.domain.knobs.dtype import FP32_BYTES, element_bytes
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.answers import generated_rows
from autofit.planning.setting import Setting

from .load import Load


def reward_models_bytes(rung: Rung, setting: Setting) -> int:
    """Bytes of the weights of all reward models, frozen: 2P in half precision, which ZeRO-3 divides by the ranks
    (prepare_deepspeed in trl/models/utils.py, 1.16). Errs low by the small tensors that are whole everywhere."""
    width = element_bytes(rung.dtype)
    ranks = setting.rank_count if rung.zero_stage >= 3 else 1
    return sum(width * -(-shape.parameter_count // ranks) for shape in setting.reward_models)


def scoring_loads(strategy: Strategy, setting: Setting, held: Load) -> Iterator[Load]:
    """The load of the largest of the reward models' passes, beside what is `held` between two steps. trl gives a model
    all answers of a rank at a time (`_calculate_rewards`)."""
    for shape in setting.reward_models:
        width = element_bytes(strategy.rung.dtype)
        gathered = shape.vocabulary_size * shape.hidden_size if strategy.rung.zero_stage >= 3 else 0
        yield Load(
            Phase.REWARD,
            held.parameters_bytes,
            held.gradients_bytes,
            held.optimizer_bytes,
            _pass_bytes(shape, generated_rows(setting.request, setting.rank_count) * setting.worst_tokens, width),
            held.buffers_bytes + width * gathered,
        )


def _pass_bytes(shape: ModelShape, tokens: int, width: int) -> int:
    """The most that a forward pass without gradients holds: within Llama's feed-forward network its input, the
    residual, two products and theirs; or within a norm the hidden state in fp32 twice. Known error: a network of
    another form, and the eager kernel's scores."""
    inner = width * (2 * shape.hidden_size + 3 * shape.intermediate_size)
    normed = 2 * (width + FP32_BYTES) * shape.hidden_size
    return tokens * max(inner, normed)
