"""Which kernel torch's scaled_dot_product_attention runs on a GPU.

The rules of torch 2.11 to 2.13, from aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (select_sdp_backend and what
it asks), but for those on what no training here brings: nested tensors, rows of one token, switches of the process.
"""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.trace import SdpaKernel

Capability = tuple[int, int]

ASSUMED: Capability = (8, 0)
"""The compute capability of a GPU whose own is unknown: the rules of most, and the least memory."""

PREFERRED_CUDNN = 91501
"""The first version of cuDNN that torch asks before flash, as cudnnGetVersion tells it: 9.15.1."""

_LAST: Capability = (12, 1)  # of flash and memory-efficient kernels
_SMALL_SHARED_MEMORY = ((8, 6), (8, 9)), ((12, 0), (12, 1))  # flash has no backward pass of large heads there


@dataclass(frozen=True)
class SdpaCall:
    """A call as the choice of a kernel looks at it. Sizes are of one head, in elements."""

    dtype: Dtype
    query_size: int  # and that of keys
    value_size: int
    has_mask: bool = False
    is_grouped: bool = False  # fewer heads of keys and values than of queries, and torch is told so (enable_gqa)
    is_broadcast: bool = False  # fewer, and torch is not told
    has_dropout: bool = False
    is_trained: bool = True

    @property
    def is_half(self) -> bool:
        return self.dtype is not Dtype.FP32


def sdpa_kernel(call: SdpaCall, capability: Capability | None, cudnn_version: int) -> SdpaKernel:
    """The first kernel in torch's order that can."""
    capability = capability or ASSUMED
    if call.is_broadcast:
        return SdpaKernel.MATH
    if cudnn_version >= PREFERRED_CUDNN and capability[0] in (9, 10) and _fits_cudnn(call, capability):
        return SdpaKernel.CUDNN
    if _fits_flash(call, capability):
        return SdpaKernel.FLASH
    return SdpaKernel.EFFICIENT if _fits_efficient(call, capability) else SdpaKernel.MATH


def with_same_rules(capability: Capability | None) -> Capability | None:
    """One compute capability for all that have the same rules, so that their GPUs share their traces."""
    if capability is None or capability > _LAST:
        return capability
    if _is_within(capability, _SMALL_SHARED_MEMORY):
        return (8, 6)
    if capability[0] == 11:
        return (8, 0)
    return (capability[0], 0)


def _fits_cudnn(call: SdpaCall, capability: Capability) -> bool:
    sizes = (call.query_size, call.value_size)
    is_allowed = max(sizes) <= (256 if capability == (9, 0) else 128) or (sizes == (192, 128) and capability[0] == 10)
    return call.is_half and is_allowed and not any(size % 8 for size in sizes)


def _fits_flash(call: SdpaCall, capability: Capability) -> bool:
    is_allowed = call.is_half and not call.has_mask and call.query_size == call.value_size <= 256
    return (8, 0) <= capability <= _LAST and is_allowed and not (call.is_trained and _lacks_backward(call, capability))


def _lacks_backward(call: SdpaCall, capability: Capability) -> bool:
    is_large = 192 < call.query_size <= 224 or (call.query_size > 224 and call.has_dropout)
    return is_large and _is_within(capability, _SMALL_SHARED_MEMORY)


def _fits_efficient(call: SdpaCall, capability: Capability) -> bool:
    has_dtype = call.dtype is not Dtype.BF16 or capability >= (8, 0)
    multiple = _alignment(call, capability)
    is_aligned = not (call.query_size % multiple or call.value_size % multiple)
    return (5, 0) <= capability <= _LAST and has_dtype and is_aligned and not call.is_grouped


def _alignment(call: SdpaCall, capability: Capability) -> int:
    """The number of elements that head sizes must be multiples of: 16 bytes at a time for tensor cores."""
    if call.is_half:
        return 8 if capability >= (7, 0) else 1
    return 4 if capability >= (8, 0) else 1


def _is_within(capability: Capability, ranges: tuple[tuple[Capability, Capability], ...]) -> bool:
    return any(first <= capability <= last for first, last in ranges)
