"""What torch's scaled_dot_product_attention runs on a GPU, on fake tensors of a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from autofit.domain.trace import SdpaKernel
from autofit.planning.memory.sdpa import PREFERRED_CUDNN, Capability, SdpaCall, sdpa_kernel
from autofit.worker.rank.torch_dtypes import DTYPES
from autofit.worker.trace.autocast import cast

_aten = torch.ops.aten


def _cudnn_version() -> int:
    """As cuDNN tells it: torch's own `version` asks every GPU for its compute capability first, for which a tracer
    would make a CUDA context. A build without CUDA brings none: then it is as new as that of torch's usual wheels."""
    library = getattr(torch._C, "_cudnn", None)
    return PREFERRED_CUDNN if library is None else int(library.getVersionInt())


class Sdpa:
    """The function scaled_dot_product_attention of torch, as a GPU of this compute capability runs it."""

    def __init__(self, capability: Capability | None) -> None:
        self._capability = capability
        self._cudnn_version = _cudnn_version()
        self.taken: set[SdpaKernel] = set()

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        query, key, value, attn_mask = cast(query, key, value, attn_mask)
        kernel = sdpa_kernel(
            _call(query, key, value, attn_mask, dropout_p, enable_gqa), self._capability, self._cudnn_version
        )
        self.taken.add(kernel)
        bias = None if attn_mask is None else _bias(attn_mask, query, key)
        if kernel is SdpaKernel.MATH:
            args = (query, key, value, bias, dropout_p, is_causal)
            return _aten._scaled_dot_product_attention_math(*args, scale=scale, enable_gqa=enable_gqa)[0]
        return _FUSED[kernel](_KernelCall(query, key, value, bias, dropout_p, is_causal, scale))


def _call(query: Any, key: Any, value: Any, mask: Any, dropout: float, enable_gqa: bool) -> SdpaCall:
    has_fewer = query.shape[1] != key.shape[1]
    return SdpaCall(
        dtype=DTYPES[query.dtype],
        query_size=query.shape[-1],
        value_size=value.shape[-1],
        has_mask=mask is not None,
        is_grouped=has_fewer and enable_gqa,
        is_broadcast=has_fewer and not enable_gqa,
        has_dropout=dropout > 0,
        is_trained=_is_trained(query, key, value),
    )


def _is_trained(*tensors: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _bias(mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The bias of a mask, which every layer makes for itself: 0 or minus infinity, in the query's dtype."""
    if mask.dtype is torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), float("-inf"))
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


# --- The kernels ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _KernelCall:
    """What a fused kernel is called with: heads of (batch, heads, tokens, head size), and a bias for each score."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    bias: torch.Tensor | None
    dropout: float
    is_causal: bool
    scale: float | None

    @property
    def biased(self) -> tuple[Any, ...]:
        """The arguments of the kernels that take a bias; the fifth asks for what the backward pass needs."""
        heads = (self.query, self.key, self.value)
        return (*heads, self.bias, _is_trained(*heads), self.dropout, self.is_causal)


def _cudnn(call: _KernelCall) -> Any:
    return _aten._scaled_dot_product_cudnn_attention(*call.biased, scale=call.scale)[0]


def _flash(call: _KernelCall) -> Any:
    """Runs the flash kernel, which takes head sizes that are multiples of 8, and no bias."""
    size, scale = call.query.shape[-1], call.scale
    heads = [call.query, call.key, call.value]
    if size % 8:
        scale = scale or size**-0.5
        heads = [functional.pad(tensor, (0, -size % 8)) for tensor in heads]
    out = _aten._scaled_dot_product_flash_attention(*heads, call.dropout, call.is_causal, False, scale=scale)[0]
    return out[..., :size]


def _efficient(call: _KernelCall) -> Any:
    return _aten._scaled_dot_product_efficient_attention(*call.biased, scale=call.scale)[0]


_FUSED = {SdpaKernel.CUDNN: _cudnn, SdpaKernel.FLASH: _flash, SdpaKernel.EFFICIENT: _efficient}
