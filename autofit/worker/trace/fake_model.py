"""The model of a micro-step, made of fake tensors, as trl's trainer has it when a step begins."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from transformers import PretrainedConfig, PreTrainedModel
from trl.trainer.utils import disable_dropout_in_model

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.request import Lora
from autofit.domain.trace import MicroStep
from autofit.worker.model.adapters import with_adapters
from autofit.worker.model.loading import build_model
from autofit.worker.model.unbuildable import BuildRefused, building
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES
from autofit.worker.trace.autocast import computing_in
from autofit.worker.trace.checkpointing import enable_checkpointing
from autofit.worker.trace.flash_attention import flash_attention, lend_to_own_attention
from autofit.worker.trace.tasks.all_tasks import TRACED_TASKS


def meta_model(config: PretrainedConfig, step: MicroStep) -> PreTrainedModel:
    """The bare model on the meta device; BuildRefused when it cannot be built, or lacks the attention kernel."""
    if step.attention is Attention.FLASH_2 and (step.kind is not DeviceKind.CUDA or step.dtype is Dtype.FP32):
        raise BuildRefused("FlashAttention-2 needs a GPU and half precision")
    config = copy.deepcopy(config)
    config.use_cache = False
    with building("the model"), flash_attention(step.is_padded), torch.device("meta"):
        dtype, scores = TORCH_DTYPES[built_dtype(step)], step.task.traits.scores
        model = build_model(config, dtype=dtype, attention=step.attention, scores=scores)
    lend_to_own_attention(model)
    return model


def reference_model(config: PretrainedConfig, step: MicroStep) -> PreTrainedModel | None:
    """The reference on the meta device, ready for its forward pass; None where the step has no model of its own for
    it."""
    if not step.has_reference or step.lora is not None:
        return None
    model = meta_model(config, replace(step, is_autocast=False))
    TRACED_TASKS[step.task].prepare_reference(model)
    if step.is_autocast:
        computing_in(model, TORCH_DTYPES[step.dtype])
    frozen: PreTrainedModel = model.eval().requires_grad_(False)
    return frozen


def built_dtype(step: MicroStep) -> Dtype:
    """The dtype in which the bare model is built."""
    return Dtype.FP32 if step.is_autocast and step.lora is None else step.dtype


def prepare(model: PreTrainedModel, step: MicroStep) -> nn.Module:
    """Leaves the model as the constructor of the task's trainer, Trainer's start of training and DeepSpeed's engine
    leave it, one after the other.

    Adapters have the model's dtype: PEFT casts them to fp32, and DeepSpeed casts them back (ZeRO-1 and 2) or trl keeps
    PEFT from it (ZeRO-3); without an engine they stay fp32. Checkpointing is not reentrant; under ZeRO-3 with LoRA trl
    makes it so, which keeps the same.
    """
    with building("the adapters"):
        trained: nn.Module = model if step.lora is None else _adapted(model, step.lora, step)
    if step.lora is not None and step.gradient_checkpointing.recomputes:
        model.enable_input_require_grads()
    if step.disables_dropout:
        disable_dropout_in_model(model)
    TRACED_TASKS[step.task].prepare(model)
    if step.gradient_checkpointing.recomputes:
        enable_checkpointing(model, step.gradient_checkpointing)
    if step.is_autocast:
        computing_in(trained, TORCH_DTYPES[step.dtype])
    return trained


def _adapted(model: PreTrainedModel, lora: Lora, step: MicroStep) -> nn.Module:
    return with_adapters(model, lora, is_fp32=step.is_autocast, scores=step.task.traits.scores)


def make_fake(model: nn.Module, mode: FakeTensorMode) -> list[torch.Tensor]:
    """Replaces every tensor of `model` by a fake one on the CPU, shared ones by the same; returns them."""
    fakes: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            fakes[id(tensor)] = _like(tensor, mode)
        return fakes[id(tensor)]

    for module in model.modules():
        places: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, module.__dict__)
        for tensors in places:
            for name, tensor in tensors.items():
                if isinstance(tensor, torch.Tensor):
                    tensors[name] = fake(tensor)
    return list(fakes.values())


def _like(tensor: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    with mode:
        made: Any = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
        return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
