"""What a model's class lacks of what the knobs offer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from autofit.domain.knobs.attention import ATTENTION, Attention
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.knob import Knob
from autofit.domain.model import Lacking

from .configuration import told
from .decoder import decoder_layers
from .loading import towers

LARGEST_FLASH_HEAD = 256  # elements: csrc/flash_attn/flash_api.cpp of flash-attn 2, mha_fwd
_FLAGS = {
    Attention.FLASH_2: "_supports_flash_attn",
    Attention.SDPA: "_supports_sdpa",
    Attention.FLEX: "_supports_flex_attn",
}  # flags of transformers' classes


def lacking(model: PreTrainedModel) -> tuple[Lacking, ...]:
    """The values of knobs that the model cannot be built with."""
    return (*_attention(model), *_checkpointing(model))


def lacks(knob: Knob[Any], value: object, why: str) -> Lacking:
    return Lacking(knob.name, knob.of(value).word, why)


def _attention(model: PreTrainedModel) -> Iterator[Lacking]:
    beside = {part.model_type for part in towers(model.config).values()}
    parts = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    parts = [part for part in parts if part.config.model_type not in beside]
    for kernel in _FLAGS:
        reasons = (_why_no_kernel(type(part), part.config, kernel) for part in parts)
        why = next((reason for reason in reasons if reason is not None), None)
        if why is not None:
            yield lacks(ATTENTION, kernel, why)


def _why_no_kernel(model_class: type[PreTrainedModel], config: PretrainedConfig, attention: Attention) -> str | None:
    """Why the class has no such kernel, as transformers declares it; None where it has one."""
    name, flag = model_class.__name__, _FLAGS.get(attention)
    if flag is not None and not getattr(model_class, flag, False):
        return f"{name} does not support {ATTENTION.of(attention).text}"
    return _why_no_flash(model_class, config) if attention is Attention.FLASH_2 else None


def _why_no_flash(model_class: type[PreTrainedModel], config: PretrainedConfig) -> str | None:
    name, others = model_class.__name__, getattr(model_class, "_compatible_flash_implementations", None) or ()
    if others and Attention.FLASH_2.value not in others:
        return f"{name} does not support FlashAttention-2: its flash attention is {' or '.join(others)}"
    if getattr(config, "alibi", False):  # Falcon's; the other classes with alibi support no flash attention at all
        return f"{name} does not support FlashAttention-2 with alibi"
    size = _largest_head(config.get_text_config())
    if size > LARGEST_FLASH_HEAD:
        return f"FlashAttention-2 takes heads of at most {LARGEST_FLASH_HEAD}, {name} has {size}"
    return None


def _largest_head(config: PretrainedConfig) -> int:
    """The size of the largest head of attention, in elements; 0 where there is no attention."""
    heads, width = told(config, "num_attention_heads"), told(config, "hidden_size")
    compressed = told(config, "qk_nope_head_dim") + told(config, "qk_rope_head_dim")
    size = told(config, "head_dim") or compressed or (width // heads if heads else 0)
    return max(size, told(config, "global_head_dim"), told(config, "v_head_dim"))


def _checkpointing(model: PreTrainedModel) -> Iterator[Lacking]:
    """What the class lacks of checkpointing, as transformers 5.23 turns it on (`_activation_checkpointing_enable` and
    `_set_gradient_checkpointing` in modeling_utils.py); what lacks all of it lacks what is between."""
    name = f"{type(model).__name__} of transformers"
    if not model.supports_gradient_checkpointing:
        why = f"{name} does not support gradient checkpointing"
        yield lacks(GRADIENT_CHECKPOINTING, GradientCheckpointing.ON, why)
    elif "value" in inspect.signature(model._set_gradient_checkpointing).parameters:
        for value in (one for one in GradientCheckpointing if one.is_between):
            yield lacks(GRADIENT_CHECKPOINTING, value, f"{name} has gradient checkpointing of its own")
    elif not all(map(_is_counted, decoder_layers(model))):
        why = f"{name} checkpoints all of its layers or none"
        yield lacks(GRADIENT_CHECKPOINTING, GradientCheckpointing.EVERY_2, why)


def _is_counted(layer: nn.Module) -> bool:
    """Whether transformers counts the layer, to checkpoint one of so many: it does its own checkpointing, and none of
    its parts does."""
    inner = (module for module in layer.modules() if isinstance(module, GradientCheckpointingLayer))
    return isinstance(layer, GradientCheckpointingLayer) and sum(1 for _ in inner) == 1
