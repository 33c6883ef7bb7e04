"""What the forward pass keeps for the backward pass: the closed form, until traces of the real model replace it."""

from __future__ import annotations

from autofit.domain.model import ModelShape
from autofit.domain.strategy import Attention, Dtype, Strategy

from .setting import Setting

HIGH_FACTOR = 5.0
"""The closed form was 19 to 79 % below real allocators' peaks of current models: 1 / (1 - 0.79), rounded up."""


def activations_bytes(strategy: Strategy, setting: Setting) -> int:
    """Bytes for one micro-batch of the longest rows: s·b·h·(34 + 5·a·s/h) per layer (Korthikanti et al., 2022, eq. 2).

    Without the second term where the kernel recomputes attention; 2·s·b·h per layer and one whole layer with gradient
    checkpointing. Known error: 19 to 79 % too low on current models, hence `HIGH_FACTOR`. No logits are counted: trl
    1.16 computes the loss in chunks behind a fused head.
    """
    layer_bytes = _layer_bytes(strategy, setting)
    layers = setting.shape.layer_count
    if not strategy.rung.gradient_checkpointing:
        return round(layers * layer_bytes)
    kept_bytes = 2 * _width_scale(strategy.rung.dtype) * _elements(strategy, setting)
    return round(layers * kept_bytes + layer_bytes)


def _layer_bytes(strategy: Strategy, setting: Setting) -> float:
    per_element = 34 + (_scores(setting.shape, setting.worst_tokens) if _keeps_scores(strategy) else 0.0)
    return _elements(strategy, setting) * per_element * _width_scale(strategy.rung.dtype)


def _elements(strategy: Strategy, setting: Setting) -> int:
    return setting.worst_tokens * strategy.micro_batch * setting.shape.hidden_size


def _keeps_scores(strategy: Strategy) -> bool:
    return strategy.rung.attention is Attention.EAGER


def _scores(shape: ModelShape, tokens: int) -> float:
    return 5 * shape.head_count * tokens / shape.hidden_size


def _width_scale(dtype: Dtype) -> int:
    """The closed form counts two bytes an element."""
    return 2 if dtype is Dtype.FP32 else 1
