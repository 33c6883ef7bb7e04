"""Activations in closed form: where nothing was traced, and what checkpointing keeps of a layer."""

from __future__ import annotations

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import FP32_BYTES, Dtype, element_bytes
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trace import Moment
from autofit.planning.parameters import parameters
from autofit.planning.plain_torch import is_autocast
from autofit.planning.setting import Setting

HIGH_FACTOR = 5.0
"""The closed form was 19 to 79 % below real allocators' peaks of current models: 1 / (1 - 0.79), rounded up."""

AUTOCAST_BYTES = 10
"""The bytes of an element of the hidden state that a layer keeps more where its weights are fp32: its two norms' inputs
are fp32, and each of the five products that read their outputs keeps a copy of its own. Traces of Llama-2-7B say 8."""


def closed_moments(strategy: Strategy, setting: Setting) -> tuple[Moment, ...]:
    """The closed form as moments: everything is kept when the backward pass begins, and still when it ends; of
    autocast's copies of the weights nothing where layers are computed again."""
    kept_bytes = closed_form_bytes(strategy, setting)
    trained = parameters(strategy.rung, setting).trained_count
    copies_bytes = element_bytes(strategy.rung.dtype) * trained if is_autocast(strategy.rung, setting) else 0
    left_bytes = round((1 - strategy.rung.gradient_checkpointing.share) * copies_bytes)
    return (
        Moment(Phase.FORWARD, kept_bytes + copies_bytes, 0),
        Moment(Phase.BACKWARD, kept_bytes + left_bytes, trained),
        Moment(Phase.BACKWARD, kept_bytes + left_bytes, trained),
    )


def closed_form_bytes(strategy: Strategy, setting: Setting) -> int:
    """Bytes for a micro-batch of the longest sequences: s·b·h·(34 + 5·a·s/h) a layer (Korthikanti et al., 2022, eq. 2).

    Without the second term where the kernel recomputes attention; a checkpointed layer keeps 2·s·b·h, and the one that
    is computed again is there as a whole. Autocast keeps AUTOCAST_BYTES more for s·b·h. Known error: 19 to 79 % too low
    on current models, hence `HIGH_FACTOR`. No logits are counted: trl 1.16 computes the loss in chunks behind a fused
    head.
    """
    checkpointing, layers = strategy.rung.gradient_checkpointing, setting.shape.layer_count
    layer_bytes = _layer_bytes(strategy, setting)
    if not checkpointing.recomputes:
        return round(layers * layer_bytes)
    whole = layers - checkpointed_layers(strategy.rung, setting)
    # The last of the layers is computed again beside all that is kept; a whole one behind it is gone by then.
    again = 1 if (layers - 1) % checkpointing.every_n_layers == 0 else 0
    return round((layers - whole) * _kept_bytes(strategy, setting) + (whole + again) * layer_bytes)


def checkpointed_layers(rung: Rung, setting: Setting) -> int:
    """The number of layers that are computed again."""
    checkpointing = rung.gradient_checkpointing
    return -(-setting.shape.layer_count // checkpointing.every_n_layers) if checkpointing.recomputes else 0


def input_bytes(strategy: Strategy, setting: Setting, tokens: float) -> float:
    """Bytes of what goes into a layer, for one micro-batch of sequences `tokens` wide."""
    width = FP32_BYTES if _is_widened(strategy, setting) else element_bytes(strategy.rung.dtype)
    return width * tokens * setting.request.sequences(strategy.micro_batch) * setting.shape.hidden_size


def _kept_bytes(strategy: Strategy, setting: Setting) -> float:
    """Bytes that a checkpointed layer keeps on the device: its input unless that is offloaded, and what is kept of
    attention: its output and, for each row of scores, the logarithm of their sum in fp32."""
    checkpointing = strategy.rung.gradient_checkpointing
    if checkpointing is GradientCheckpointing.OFFLOAD:
        return 0.0
    kept_bytes = input_bytes(strategy, setting, setting.worst_tokens)
    is_selective = checkpointing is GradientCheckpointing.SELECTIVE
    return kept_bytes + (_attended_bytes(strategy, setting) if is_selective else 0.0)


def _attended_bytes(strategy: Strategy, setting: Setting) -> float:
    shape, seen = setting.shape, setting.worst_tokens * setting.request.sequences(strategy.micro_batch)
    return seen * shape.head_count * (element_bytes(strategy.rung.dtype) * shape.head_size + FP32_BYTES)


def _layer_bytes(strategy: Strategy, setting: Setting) -> float:
    per_element = 34 + (_scores(setting.shape, setting.worst_tokens) if _keeps_scores(strategy) else 0.0)
    per_element += AUTOCAST_BYTES if _is_widened(strategy, setting) else 0
    return _elements(strategy, setting) * per_element * _width_scale(strategy.rung.dtype)


def _is_widened(strategy: Strategy, setting: Setting) -> bool:
    """Whether what goes from layer to layer is fp32 although products are not, because the weights are fp32."""
    return is_autocast(strategy.rung, setting) and strategy.rung.method is Method.FULL


def _elements(strategy: Strategy, setting: Setting) -> int:
    return setting.worst_tokens * setting.request.sequences(strategy.micro_batch) * setting.shape.hidden_size


def _keeps_scores(strategy: Strategy) -> bool:
    return strategy.rung.attention is Attention.EAGER


def _scores(shape: ModelShape, tokens: int) -> float:
    return 5 * shape.head_count * tokens / shape.hidden_size


def _width_scale(dtype: Dtype) -> int:
    """The factor of a dtype, since the closed form counts two bytes an element."""
    return element_bytes(dtype) // 2
