"""The kernels that the device of a job would run, while its model runs on fake tensors of a CPU.

Fake tensors cannot be CUDA's in a torch that was built without it, so what would choose by device is told here.
Invisible in any case: what a kernel takes for itself, such as flash attention's backward accumulators, the workspaces
of cuBLAS and cuDNN, and what Triton keeps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import transformers.masking_utils
import trl.kernels.chunked_logprob
import trl.trainer.utils
from torch.nn import functional

from autofit.domain.hardware import DeviceKind
from autofit.domain.trace import MicroStep, SdpaKernel
from autofit.worker.trace.attention_kernels import Sdpa
from autofit.worker.trace.autocast import gpu_rules
from autofit.worker.trace.checkpointing import saved_by
from autofit.worker.trace.flash_attention import flash_attention
from autofit.worker.trace.flex_attention import flex_attention
from autofit.worker.trace.replacement import replace_name
from autofit.worker.trace.zero_linear import keeping_linear

_LIBRARY = torch.library.Library("autofit", "DEF")
# trl's Triton kernels: they work in place, on one tile of logits.
_LIBRARY.define("fold_logits(Tensor(a!) tile) -> ()")
_LIBRARY.define("add_product(Tensor(a!) sum, Tensor a, Tensor b) -> ()")
_LIBRARY.impl("fold_logits", lambda tile: None, "CPU")
_LIBRARY.impl("add_product", lambda sum, a, b: None, "CPU")
torch.library.register_fake("autofit::fold_logits", lambda tile: None, lib=_LIBRARY)
torch.library.register_fake("autofit::add_product", lambda sum, a, b: None, lib=_LIBRARY)


@contextlib.contextmanager
def kernels_of(step: MicroStep) -> Iterator[set[SdpaKernel]]:
    """Puts the device's kernels in place until the end of `with`; one at a time in a process. The set fills with the
    kernels that attention takes."""
    sdpa = Sdpa(step.capability)
    with contextlib.ExitStack() as stack:
        stack.enter_context(saved_by(step.gradient_checkpointing, step.kind))
        replace_name(stack, transformers.masking_utils, "_ignore_causal_mask_sdpa", _mask_rule(step.is_padded))
        if step.keeps_linear_inputs:
            replace_name(stack, functional, "linear", keeping_linear)
        if step.kind is DeviceKind.CUDA and step.is_autocast:
            stack.enter_context(gpu_rules())
        if step.kind is DeviceKind.CUDA:
            stack.enter_context(flash_attention(step.is_padded))
            stack.enter_context(flex_attention())
            replace_name(stack, functional, "scaled_dot_product_attention", sdpa)
            replace_name(stack, functional, "dropout", _cuda_dropout)
            replace_name(stack, trl.trainer.utils, "_use_triton", lambda device: True)
            for name, stand_in in _TRITON.items():
                replace_name(stack, trl.kernels.chunked_logprob, name, stand_in)
        yield sdpa.taken


def _mask_rule(is_padded: bool) -> Any:
    """The rule by which a mask is left out. transformers builds the whole mask when it sees fake tensors; on real ones
    it first looks for a padded row."""
    original = transformers.masking_utils._ignore_causal_mask_sdpa

    def rule(padding_mask: torch.Tensor | None, *args: Any, **kwargs: Any) -> bool:
        is_ignored: bool = original(padding_mask if is_padded else None, *args, **kwargs)
        return is_ignored

    return rule


# --- Dropout ----------------------------------------------------------------------------------------------------------


def _cuda_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Drops out as a GPU does, which keeps a mask of one byte an element; a CPU keeps the noise in full size."""
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


# --- The loss ---------------------------------------------------------------------------------------------------------


class _Fold:
    """An operation that is launched like a Triton kernel: `kernel[grid](tile, …)`."""

    def __getitem__(self, grid: object) -> Any:
        return lambda tile, *_, **__: torch.ops.autofit.fold_logits(tile)


class _Triton:
    @staticmethod
    def cdiv(a: int, b: int) -> int:
        return -(-a // b)


_TRITON = {
    "_use_triton": lambda device: True,
    "_forward_kernel": _Fold(),
    "_backward_kernel": _Fold(),
    "_addmm_fp32": lambda acc, a, b: torch.ops.autofit.add_product(acc, a, b),
    "triton": _Triton,
}
