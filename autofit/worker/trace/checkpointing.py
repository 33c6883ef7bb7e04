"""Checkpointing of a model of fake tensors: what it keeps on the device is what the trainer's keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import transformers.modeling_utils
import trl.models.selective_activation_checkpointing as selective
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.worker.trace.replacement import replace_name

_FLASH_STAND_IN = "_flash_attention_forward"  # of torch, which plays the package's operator (flash_attention.py)


def enable_checkpointing(model: PreTrainedModel, checkpointing: GradientCheckpointing) -> None:
    """Turns checkpointing on as Trainer and SFTTrainer do for a rung that has it."""
    if checkpointing is GradientCheckpointing.SELECTIVE:
        selective.enable_selective_activation_checkpointing(model)
    model.activation_checkpointing_enable(
        every_n_layers=checkpointing.every_n_layers, offload=checkpointing is GradientCheckpointing.OFFLOAD
    )


@contextlib.contextmanager
def saved_by(checkpointing: GradientCheckpointing, kind: DeviceKind) -> Iterator[None]:
    """Has what checkpointing saves go where a device's goes until the end of `with`."""
    with contextlib.ExitStack() as stack:
        if checkpointing is GradientCheckpointing.OFFLOAD:
            replace_name(stack, transformers.modeling_utils, "save_on_cpu", _OffDevice)
        if kind is DeviceKind.CUDA and checkpointing is GradientCheckpointing.SELECTIVE:
            names = (*selective._ATEN_ATTENTION_PACKET_NAMES, _FLASH_STAND_IN)
            replace_name(stack, selective, "_ATEN_ATTENTION_PACKET_NAMES", names)
        yield


class _OffDevice(saved_tensors_hooks):
    """Lets saved tensors go, and makes new ones of their shape when they are wanted: fake tensors have no other
    device, and what lies on the host is counted by formula."""

    def __init__(self, pin_memory: bool, device_type: str) -> None:
        super().__init__(_shape, _back)


def _shape(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype


def _back(shape: tuple[Any, ...]) -> torch.Tensor:
    size, stride, dtype = shape
    return torch.empty_strided(size, stride, dtype=dtype)
