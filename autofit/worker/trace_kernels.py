"""The kernels that the device of a job would run, while its model runs on fake tensors of a CPU.

Fake tensors cannot be CUDA's in a torch that was built without it, so what would choose by device is told here.
Invisible in any case: what a kernel takes for itself, such as flash attention's backward accumulators, the workspace of
cuBLAS, and what Triton keeps.
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
from transformers import AttentionInterface

from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Attention, Dtype
from autofit.domain.trace import MicroStep

FLASH_2 = "autofit_fa2"  # transformers would ask a name with "flash" in it for the package
_aten = torch.ops.aten
_HALF = (torch.bfloat16, torch.float16)
_LIBRARY = torch.library.Library("autofit", "DEF")
# trl's Triton kernels: they work in place, on one tile of logits.
_LIBRARY.define("fold_logits(Tensor(a!) tile) -> ()")
_LIBRARY.define("add_product(Tensor(a!) sum, Tensor a, Tensor b) -> ()")
_LIBRARY.impl("fold_logits", lambda tile: None, "CPU")
_LIBRARY.impl("add_product", lambda sum, a, b: None, "CPU")
torch.library.register_fake("autofit::fold_logits", lambda tile: None, lib=_LIBRARY)
torch.library.register_fake("autofit::add_product", lambda sum, a, b: None, lib=_LIBRARY)


def attention_name(step: MicroStep) -> str:
    """What transformers calls the kernel; ValueError when the device has none of this kind."""
    if step.attention is not Attention.FLASH_2:
        return step.attention.value
    if step.kind is not DeviceKind.CUDA or step.dtype is Dtype.FP32:
        raise ValueError("FlashAttention-2 needs a GPU and half precision")
    return FLASH_2


@contextlib.contextmanager
def kernels_of(step: MicroStep) -> Iterator[None]:
    """Until the end of `with`; one at a time in a process."""
    with contextlib.ExitStack() as stack:
        _replace(stack, transformers.masking_utils, "_ignore_causal_mask_sdpa", _mask_rule(step.is_padded))
        if step.kind is DeviceKind.CUDA:
            _replace(stack, functional, "scaled_dot_product_attention", _cuda_attention)
            _replace(stack, functional, "dropout", _cuda_dropout)
            _replace(stack, trl.trainer.utils, "_use_triton", lambda device: True)
            for name, stand_in in _TRITON.items():
                _replace(stack, trl.kernels.chunked_logprob, name, stand_in)
        yield


def _replace(stack: contextlib.ExitStack, module: Any, name: str, value: Any) -> None:
    if hasattr(module, name):
        stack.callback(setattr, module, name, getattr(module, name))
    else:
        stack.callback(delattr, module, name)
    setattr(module, name, value)


def _mask_rule(is_padded: bool) -> Any:
    """transformers builds the whole mask when it sees fake tensors; on real ones it first looks for a padded row."""
    original = transformers.masking_utils._ignore_causal_mask_sdpa

    def rule(padding_mask: torch.Tensor | None, *args: Any, **kwargs: Any) -> bool:
        return original(padding_mask if is_padded else None, *args, **kwargs)

    return rule


# --- Attention and dropout --------------------------------------------------------------------------------------------


def _flash(query: Any, key: Any, value: Any, dropout: float, is_causal: bool, scale: float | None) -> torch.Tensor:
    """The kernel takes head sizes that are multiples of 8."""
    size = query.shape[-1]
    if size % 8:
        scale = scale or size**-0.5
        query, key, value = (functional.pad(tensor, (0, -size % 8)) for tensor in (query, key, value))
    out = _aten._scaled_dot_product_flash_attention(query, key, value, dropout, is_causal, False, scale=scale)[0]
    return out[..., :size]


def _cuda_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """As torch chooses on compute capability 8.0 and up: flash without a mask, memory-efficient with one or in fp32."""
    if attn_mask is None and query.dtype in _HALF and query.shape[-1] <= 256:
        return _flash(query, key, value, dropout_p, is_causal, scale)
    if enable_gqa:
        args = (query, key, value, attn_mask, dropout_p, is_causal)
        return _aten._scaled_dot_product_attention_math(*args, scale=scale, enable_gqa=True)[0]
    bias = None if attn_mask is None else _bias(attn_mask, query, key)
    is_trained = query.requires_grad or key.requires_grad
    args = (query, key, value, bias, is_trained, dropout_p, is_causal)
    return _aten._scaled_dot_product_efficient_attention(*args, scale=scale)[0]


def _bias(mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Every layer makes its own: 0 or minus infinity, in the query's dtype."""
    if mask.dtype is torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), float("-inf"))
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def _flash_2(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Padding is not taken out: the rows of a worst batch have hardly any."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    return _flash(query, key, value, dropout, causal, scaling).transpose(1, 2).contiguous(), None


AttentionInterface.register(FLASH_2, _flash_2)


def _cuda_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Keeps a mask of one byte an element; a CPU keeps the noise in full size."""
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


# --- The loss ---------------------------------------------------------------------------------------------------------


class _Fold:
    """Launched like a Triton kernel: `kernel[grid](tile, …)`."""

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
