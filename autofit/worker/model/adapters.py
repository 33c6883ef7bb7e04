"""LoRA's adapters on a model: their configuration, and the model with them."""

from __future__ import annotations

import warnings
from typing import cast

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from autofit.domain.request import Lora

from .heads import scoring_head
from .targets import lora_targets


def lora_config(lora: Lora, model: PreTrainedModel, *, scores: bool = False) -> LoraConfig:
    """The config of a training's, a probe's and a trace's adapters on `model`, whose head is trained with them where it
    `scores`: it is new; ValueError as `lora_targets`."""
    targets = list(lora_targets(lora, model))
    if not scores:
        return LoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules=targets, task_type="CAUSAL_LM")
    head = list(scoring_head(model))
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, target_modules=targets, task_type="SEQ_CLS", modules_to_save=head
    )


def with_adapters(model: PreTrainedModel, lora: Lora, *, is_fp32: bool = False, scores: bool = False) -> nn.Module:
    """The model with adapters of its own dtype, as DeepSpeed has them when a step begins, or of fp32, as PEFT makes
    them."""
    is_meta = model.device.type == "meta"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about layouts that matter for a real adapter's file
        config = lora_config(lora, model, scores=scores)
        adapted = get_peft_model(model, config, autocast_adapter_dtype=False, low_cpu_mem_usage=is_meta)
    for parameter in adapted.parameters():  # whatever PEFT does: it leaves adapters on meta in fp32
        is_adapter = parameter.requires_grad
        if parameter.is_floating_point():  # what is packed stays so
            parameter.data = parameter.data.to(torch.float32 if is_fp32 and is_adapter else model.dtype)
    return cast(nn.Module, adapted)


def adapted_layers(model: nn.Module) -> frozenset[nn.Module]:
    """The layers that have an adapter beside them."""
    return frozenset(module.base_layer for module in model.modules() if isinstance(module, BaseTunerLayer))
