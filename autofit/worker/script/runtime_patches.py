"""Gradient checkpointing and attention of a Hugging Face model, read and patched wherever a script built it."""

from __future__ import annotations

import contextlib
import warnings

from torch import nn
from transformers import PreTrainedModel

from autofit.domain.knobs.attention import Attention
from autofit.domain.script import RuntimePatches


def hugging_face_model(model: nn.Module) -> PreTrainedModel | None:
    """The model itself, or the outermost within PEFT's wrapper or a module of the user's; None where there is none."""
    return next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)


def has_checkpointing(model: PreTrainedModel | None) -> bool | None:
    """Whether the model has gradient checkpointing on, None where it cannot have it."""
    if model is None or not model.supports_gradient_checkpointing:
        return None
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def attention_of(model: PreTrainedModel | None) -> Attention | None:
    """The attention kernel of the model, None where it cannot be told, or is a kernel that autofit does not know."""
    name = getattr(model.config, "_attn_implementation", None) if model is not None else None
    with contextlib.suppress(ValueError):
        return Attention(name)
    return None


def apply_patches(model: nn.Module, patches: RuntimePatches, *, zero_stage: int) -> None:
    """Applies `patches` before the engine is made; ValueError, ImportError where the model has no such thing."""
    if patches.is_nothing:
        return
    inner = hugging_face_model(model)
    if inner is None:
        raise ValueError(f"{type(model).__name__} is no Hugging Face model: nothing can be turned in it")
    if patches.attention is not None:
        _set_attention(inner, patches.attention)
    if patches.gradient_checkpointing is not None:
        _set_checkpointing(inner, patches.gradient_checkpointing, is_adapted=inner is not model, zero_stage=zero_stage)


def _set_attention(model: PreTrainedModel, attention: Attention) -> None:
    model.set_attn_implementation(attention.value)
    if attention_of(model) is not attention:  # some models only warn
        raise ValueError(f"the attention of {type(model).__name__} cannot be turned to {attention.value}")


def _set_checkpointing(model: PreTrainedModel, is_on: bool, *, is_adapted: bool, zero_stage: int) -> None:
    if has_checkpointing(model) is None:
        raise ValueError(f"{type(model).__name__} does not support gradient checkpointing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its name changes between the versions that we support
        if not is_on:
            model.gradient_checkpointing_disable()
            return
        # ZeRO-3 with an adapter needs the reentrant kind (trl forces it too), and that one inputs with gradients.
        is_reentrant = is_adapted and zero_stage == 3
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": is_reentrant})
    model.config.use_cache = False
    if is_reentrant:
        model.enable_input_require_grads()
