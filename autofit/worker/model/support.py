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
from autofit.domain.knobs.quantization import QUANTIZATION
from autofit.domain.model import Lacking
from autofit.planning.quantized_weights import PACKED_BITS

from .configuration import told
from .decoder import decoder_layers
from .heads import scoring_head
from .linear_layers import linear_layers
from .loading import towers
from .targets import is_state_space

LARGEST_FLASH_HEAD = 256  # elements: csrc/flash_attn/flash_api.cpp of flash-attn 2, mha_fwd
_FLAGS = {
    Attention.FLASH_2: "_supports_flash_attn",
    Attention.SDPA: "_supports_sdpa",
    Attention.FLEX: "_supports_flex_attn",
}  # flags of transformers' classes

LEAST_QUANTIZED_SHARE = 0.5
"""Of a model's weights between its embeddings and its head. Experts that stand in one parameter are no linear layers:
3 % of Mixtral-8x7B's weights are in some."""
_READS_WEIGHTS = (
    "Gemma3nTextAltUp", "LongcatFlashTopkRouter", "LSHSelfAttention", "Dots3NoteTextIndexer", "HYV4Indexer",
)  # fmt: skip
"""Classes of transformers 5.23 that multiply with a linear layer's weight themselves, or go by its dtype."""


def lacking(model: PreTrainedModel, *, scores: bool = False) -> tuple[Lacking, ...]:
    """The values of knobs that the model cannot be built with; where it `scores`, its head is trained."""
    return (*_attention(model), *_checkpointing(model), *_quantization(model, scores))


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


def _quantization(model: PreTrainedModel, scores: bool) -> Iterator[Lacking]:
    why = _why_not_quantized(model) or (_why_not_its_head(model) if scores else None)
    if why is not None:
        yield from (lacks(QUANTIZATION, one, why) for one in PACKED_BITS)


def _why_not_quantized(model: PreTrainedModel) -> str | None:
    name, linear = type(model).__name__, list(linear_layers(model))
    if any(is_state_space(module) for module in model.modules()):
        return f"the kernels of {name}'s state space layers read their weights as they are"
    reader = next((type(one).__name__ for one in model.modules() if type(one).__name__ in _READS_WEIGHTS), None)
    if reader is not None:
        return f"{reader} of {name} reads the weights of its linear layers as they are"
    if not linear:
        return f"{name} has no linear layer that can be quantised"
    share = sum(layer.weight.numel() for layer in linear) / _inner_count(model)
    if share < LEAST_QUANTIZED_SHARE:
        return (
            f"only {share:.0%} of the weights between {name}'s embeddings and its head are those of linear layers, "
            "which alone can be quantised"
        )
    return None


def _why_not_its_head(model: PreTrainedModel) -> str | None:
    """Why the head that scores would be quantised with the rest: only its last layer is left as it is."""
    quantized = set(linear_layers(model))
    inner = (module for head in scoring_head(model).values() for module in head.modules())
    if quantized.isdisjoint(inner):
        return None
    return f"{type(model).__name__} would have its head quantised, which must be trained"


def _inner_count(model: PreTrainedModel) -> int:
    """How many parameters there are but for the embeddings and the head."""
    ends = {model.get_input_embeddings(), model.get_output_embeddings()} - {None}
    outer = {parameter for end in ends for parameter in end.parameters()}
    return sum(parameter.numel() for parameter in model.parameters() if parameter not in outer)
