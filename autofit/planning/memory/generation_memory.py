"""What one rank holds while it generates the answers of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from autofit.domain.knobs.dtype import FP32_BYTES, element_bytes
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Moment
from autofit.planning.answers import generated_rows
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

from .buffers import bucket_count, gathered_count
from .load import Load
from .reward_models import scoring_loads
from .states import model_states, persistent_count

SAMPLING_BYTES = 3 * FP32_BYTES
"""Bytes that a draw takes for each logit of a row's last token beside the logit itself: the logit in fp32, its
probability, and a random number (`_sample` in transformers/generation/utils.py, 5.23; torch's `multinomial`)."""


def generation_loads(strategy: Strategy, setting: Setting, moments: Sequence[Moment]) -> Iterator[Load]:
    """The load of the larger of a generation's moments, and those of the reward models' passes behind it; none where no
    answers are generated. No gradient of the step has come yet.

    Under ZeRO-3 the model is whole beside its partitions, but for one that is not gathered (`with_gathering`), whose
    layers come and go as in any forward pass.
    """
    found = [moment for moment in moments if moment.phase is Phase.GENERATE]
    if not found:
        return
    states, rung, width = model_states(strategy, setting), strategy.rung, element_bytes(strategy.rung.dtype)
    buckets = bucket_count(rung, setting) if rung.zero_stage >= 3 and not rung.optimizer.is_fused else 0
    held = Load(
        Phase.GENERATE,
        states.parameters_bytes,
        states.gradients_bytes,
        states.optimizer_bytes,
        buffers_bytes=states.buffers_bytes + width * buckets,
    )
    yield replace(
        held,
        activations_bytes=max(moment.activations_bytes for moment in found),
        buffers_bytes=held.buffers_bytes + width * _gathered(strategy, setting),
    )
    yield from scoring_loads(strategy, setting, held)


def _gathered(strategy: Strategy, setting: Setting) -> int:
    """Elements that are whole beside the partitions."""
    rung = strategy.rung
    if rung.zero_stage < 3 or not setting.is_divided:
        return 0
    if not setting.gathers_generation:
        return gathered_count(rung, setting, 0.0)
    return parameters(rung, setting).whole_count - persistent_count(rung, setting)


def closed_generation(strategy: Strategy, setting: Setting) -> tuple[Moment, ...]:
    """A generation in closed form: the cache of keys and values of all answers at their full length, 2·l·k·d elements
    a token for l layers of k heads of keys of the size d (Pope et al., Efficiently Scaling Transformer Inference, 2022,
    section 2.1), with the copy by which a layer's grows, and what a draw takes. Empty where none are generated.

    Known error: a model that keeps less of a token than that, such as DeepSeek's, has less.
    """
    rows = generated_rows(setting.request, setting.rank_count)
    if not rows:
        return ()
    shape, width = setting.shape, element_bytes(strategy.rung.dtype)
    layer_bytes = 2 * shape.key_value_head_count * shape.head_size * width * rows * setting.worst_tokens
    drawn_bytes = (width + SAMPLING_BYTES) * rows * shape.vocabulary_size
    return (Moment(Phase.GENERATE, layer_bytes * (shape.layer_count + 1) + drawn_bytes, 0),)
