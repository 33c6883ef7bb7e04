"""What a kernel leaves of itself on fake tensors: the memory of what it makes, keeps and frees, and its work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

Shape = tuple[int, ...]
FP32 = torch.float32

_LIBRARY = torch.library.Library("autofit", "FRAGMENT")
_LIBRARY.define("run_kernel(Tensor[] read, Tensor(a!)[] written, int flop) -> ()")
_LIBRARY.impl("run_kernel", lambda read, written, flop: None, "CPU")
torch.library.register_fake("autofit::run_kernel", lambda read, written, flop: None, lib=_LIBRARY)
RUN_KERNEL = torch.ops.autofit.run_kernel


@dataclass(frozen=True)
class Kernel:
    """A kernel as memory sees it: the shapes and dtypes of what it makes; those it keeps beside its inputs, and those
    that it frees before it ends, forward and backward."""

    out: tuple[Shape, torch.dtype]
    kept: Sequence[tuple[Shape, torch.dtype]] = ()
    passing: Sequence[tuple[Shape, torch.dtype]] = ()
    passing_backward: Sequence[tuple[Shape, torch.dtype]] = ()
    flop: int = 0  # of its products, forward; backward it is three times that, for it computes them once more
    keeps_out: bool = False
    unkept: int = 0  # of its inputs, the first so many are not kept

    def __call__(self, *inputs: torch.Tensor | None) -> torch.Tensor:
        return cast(torch.Tensor, _Run.apply(self, *inputs))  # type: ignore[no-untyped-call]


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Kernel, *inputs: torch.Tensor | None) -> torch.Tensor:
        out, *kept = _made([kernel.out, *kernel.kept])
        read = [tensor for tensor in inputs if tensor is not None]
        RUN_KERNEL(read, [out, *kept, *_made(kernel.passing)], kernel.flop)
        ctx.kernel = kernel
        ctx.save_for_backward(*inputs[kernel.unkept :], *kept, out if kernel.keeps_out else None)
        ctx.inputs = [None if tensor is None else (tuple(tensor.shape), tensor.dtype) for tensor in inputs]
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        needed = zip(ctx.inputs, ctx.needs_input_grad[1:], strict=True)
        gradients = [_made([like])[0] if is_needed else None for like, is_needed in needed]
        written = [one for one in gradients if one is not None] + _made(ctx.kernel.passing_backward)
        read = [tensor for tensor in ctx.saved_tensors if tensor is not None]
        RUN_KERNEL([*read, gradient], written, 3 * ctx.kernel.flop)
        return None, *gradients


def _made(things: Sequence[tuple[Shape, torch.dtype]]) -> list[torch.Tensor]:
    return [torch.empty(shape, dtype=dtype) for shape, dtype in things]
