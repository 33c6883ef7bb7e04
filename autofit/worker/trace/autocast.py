"""torch's autocast around a model of a CPU, as the device of a job has it.

Trainings by plain torch have it around the model's forward pass: accelerate 1.15 puts it there (`prepare_model` in
accelerator.py). A weight is cast once a pass, and its copy lasts until the pass is over or, where the backward pass
reads it, until then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

_FP32_ON_GPU = (
    "exp", "log", "rsqrt", "reciprocal", "softplus", "layer_norm", "group_norm", "logsumexp",
    "pow.Tensor_Scalar", "pow.Tensor_Tensor", "softmax.int", "log_softmax.int", "sum", "sum.dim_IntList", "cumsum",
)  # fmt: skip
"""What models call of the operators that a GPU's autocast computes in fp32 and a CPU's leaves as they are (lists
AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE in aten/src/ATen/autocast_mode.h, torch 2.13)."""

_HALVES = (torch.bfloat16, torch.float16)
_WITHOUT = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


def computing_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Has the model's forward pass compute in `dtype`."""
    model.forward = torch.autocast("cpu", dtype=dtype)(model.forward)


def cast(*tensors: Any) -> tuple[Any, ...]:
    """The tensors as autocast gives them to a kernel of half precision; as they are where it is off."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    dtype = torch.get_autocast_dtype("cpu")
    is_half = [isinstance(tensor, torch.Tensor) and tensor.is_floating_point() for tensor in tensors]
    return tuple(tensor.to(dtype) if half else tensor for tensor, half in zip(tensors, is_half, strict=True))


@contextlib.contextmanager
def gpu_rules() -> Iterator[None]:
    """Has a CPU's autocast compute in fp32 what a GPU's does, until the end of `with`."""
    library = torch.library.Library("aten", "IMPL")
    try:
        for name in _FP32_ON_GPU:
            library.impl(name, _in_fp32(name), "AutocastCPU")
        yield
    finally:
        library._destroy()


def _in_fp32(name: str) -> Callable[..., Any]:
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def compute(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_WITHOUT):
            return operator(*map(_widened, args), **kwargs)

    return compute


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in _HALVES else value
