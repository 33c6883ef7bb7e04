"""What a model's class lacks of what the knobs offer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from autofit.domain.knobs.attention import ATTENTION, Attention
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING
from autofit.domain.knobs.knob import Knob
from autofit.domain.model import Lacking

LARGEST_FLASH_HEAD = 256  # elements: of FlashAttention-2 (README of flash-attn 2, "Functionality")
_SUPPORTS = {
    Attention.FLASH_2: "_supports_flash_attn",
    Attention.SDPA: "_supports_sdpa",
    Attention.FLEX: "_supports_flex_attn",
}  # flags of transformers' classes


def lacking(model: PreTrainedModel) -> tuple[Lacking, ...]:
    """The values of knobs that the model cannot be built with. Its parts, such as a vision tower, count as it does."""
    return (*_attention(model), *_checkpointing(model))


def lacks(knob: Knob[Any], value: object, why: str) -> Lacking:
    return Lacking(knob.name, knob.of(value).word, why)


def _attention(model: PreTrainedModel) -> Iterator[Lacking]:
    parts = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    for kernel, flag in _SUPPORTS.items():
        without = next((type(part).__name__ for part in parts if not getattr(part, flag, False)), None)
        why = f"{without} of transformers does not support {ATTENTION.of(kernel).text}" if without else None
        if why is None and kernel is Attention.FLASH_2:
            why = _why_no_flash(model)
        if why is not None:
            yield lacks(ATTENTION, kernel, why)


def _why_no_flash(model: PreTrainedModel) -> str | None:
    others = getattr(model, "_compatible_flash_implementations", None) or ()
    if others and Attention.FLASH_2.value not in others:
        return f"{type(model).__name__} needs another flash kernel ({', '.join(others)})"
    size = _largest_head(model.config.get_text_config())
    if size > LARGEST_FLASH_HEAD:
        return f"FlashAttention-2 takes heads of at most {LARGEST_FLASH_HEAD}, {type(model).__name__} has {size}"
    return None


def _largest_head(config: PretrainedConfig) -> int:
    """The size of the largest head of attention, in elements; 0 where there is no attention."""

    def told(*names: str) -> int:
        values = [getattr(config, name, None) for name in names]
        return sum(value for value in values if isinstance(value, int))

    heads = told("num_attention_heads")
    even = told("hidden_size") // heads if heads else 0
    compressed = told("qk_nope_head_dim", "qk_rope_head_dim")
    return max(told("head_dim") or compressed or even, told("global_head_dim"), told("v_head_dim"))


def _checkpointing(model: PreTrainedModel) -> Iterator[Lacking]:
    if not model.supports_gradient_checkpointing:
        why = f"{type(model).__name__} of transformers does not support gradient checkpointing"
        yield lacks(GRADIENT_CHECKPOINTING, True, why)
