"""Which attention kernels a micro-step can have."""

from __future__ import annotations

from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.auto_factory import _get_model_class

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.trace import MicroStep
from autofit.worker.model.support import why_no_kernel
from autofit.worker.model.unbuildable import Unbuildable


def check_attention(config: PretrainedConfig, step: MicroStep) -> None:
    """Raises Unbuildable where the device or the model's class has no such kernel. A class that is not transformers'
    own is asked when it is built."""
    if step.attention is Attention.FLASH_2 and (step.kind is not DeviceKind.CUDA or step.dtype is Dtype.FP32):
        raise Unbuildable("FlashAttention-2 needs a GPU and half precision")
    classes = AutoModelForCausalLM._model_mapping
    if type(config) in classes and (why := why_no_kernel(_get_model_class(config, classes), config, step.attention)):
        raise Unbuildable(why)
