"""Which attention kernels the class of a model supports."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.auto_factory import _get_model_class

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.trace import MicroStep
from autofit.worker.trace.unbuildable import Unbuildable


def check_attention(config: PretrainedConfig, step: MicroStep) -> None:
    """Raises Unbuildable where the device or the model's class has no such kernel. A class that is not transformers'
    own is asked when it is built."""
    if step.attention is Attention.FLASH_2 and (step.kind is not DeviceKind.CUDA or step.dtype is Dtype.FP32):
        raise Unbuildable("FlashAttention-2 needs a GPU and half precision")
    classes = AutoModelForCausalLM._model_mapping
    if type(config) in classes and (why := why_no_kernel(_get_model_class(config, classes), config, step.attention)):
        raise Unbuildable(why)


def why_no_kernel(model_class: Any, config: PretrainedConfig, attention: Attention) -> str | None:
    """Why the class has no such kernel, as transformers declares it; None where it has one. Heads aside: their size is
    known when the kernel is called."""
    name = model_class.__name__
    if attention is Attention.SDPA and not model_class._supports_sdpa:
        return f"{name} does not support sdpa"
    return _why_no_flash(model_class, name, config) if attention is Attention.FLASH_2 else None


def _why_no_flash(model_class: Any, name: str, config: PretrainedConfig) -> str | None:
    if not model_class._supports_flash_attn:
        return f"{name} does not support FlashAttention-2"
    named = getattr(model_class, "_compatible_flash_implementations", None)
    if named and Attention.FLASH_2.value not in named:
        return f"{name} does not support FlashAttention-2: its flash attention is {' or '.join(named)}"
    if getattr(config, "alibi", False):  # Falcon's; the other classes with alibi support no flash attention at all
        return f"{name} does not support FlashAttention-2 with alibi"
    return None
