"""Products of bf16 matrices on a CPU that has no instructions for them.

oneDNN takes bf16 from AVX-512 on; below it torch multiplies in plain loops of half a GFLOP/s, a hundredth of what the
same CPU does in fp32 (aten/src/ATen/native/CPUBlas.cpp and mkldnn/Matmul.cpp). A training there would be all waiting.
So a rank multiplies in fp32 instead, block by block: each sum is added up in fp32 and rounded once, as those
instructions do it, and beside the result there are never more than three blocks of BLOCK_ELEMENTS in fp32.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.probing.protocol import Job

BLOCK_ELEMENTS = 1 << 18  # 1 MB, which a core's cache holds
_BLOCK_WIDTH = 512  # of the product's blocks, which are squares

_overrides: list[torch.library.Library] = []  # they last as long as they are held


def prepare_products(job: Job) -> None:
    """Has a rank of a bf16 job on such a CPU multiply in fp32."""
    is_slow = job.kind is DeviceKind.CPU and job.strategy.rung.dtype is Dtype.BF16
    if is_slow and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        multiply_in_fp32()


def multiply_in_fp32() -> None:
    """Has this process's CPU multiply bf16 matrices in fp32 from now on; those of other dtypes as before."""
    if _overrides:
        return
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once for all operators")  # that it overrides
        for name, function in (("mm", _mm), ("addmm", _addmm), ("bmm", _bmm), ("baddbmm", _baddbmm)):
            library.impl(name, function, "CPU")
    _overrides.append(library)


def _mm(left: Tensor, right: Tensor) -> Tensor:
    out = left.new_empty(left.shape[0], right.shape[1])
    if not _is_ours(left, right):
        return torch.ops.aten.mm.out(left, right, out=out)  # type: ignore[no-any-return]
    _multiply(left, right, out)
    return out


def _addmm(added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    out = left.new_empty(left.shape[0], right.shape[1])
    if not _is_ours(left, right):
        return torch.ops.aten.addmm.out(added, left, right, beta=beta, alpha=alpha, out=out)  # type: ignore[no-any-return]
    _multiply(left, right, out, _Added(added.expand(out.shape), beta, alpha))
    return out


def _bmm(left: Tensor, right: Tensor) -> Tensor:
    out = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    if not _is_ours(left, right):
        return torch.ops.aten.bmm.out(left, right, out=out)  # type: ignore[no-any-return]
    for one, other, into in zip(left, right, out, strict=True):
        _multiply(one, other, into)
    return out


def _baddbmm(added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    out = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    if not _is_ours(left, right):
        return torch.ops.aten.baddbmm.out(added, left, right, beta=beta, alpha=alpha, out=out)  # type: ignore[no-any-return]
    for wide, one, other, into in zip(added.expand(out.shape), left, right, out, strict=True):
        _multiply(one, other, into, _Added(wide, beta, alpha))
    return out


def _is_ours(left: Tensor, right: Tensor) -> bool:
    """What torch would refuse is left to it as well, in its words."""
    is_bf16 = left.dtype is torch.bfloat16 and right.dtype is torch.bfloat16
    return is_bf16 and left.shape[-1] == right.shape[-2]


@dataclass(frozen=True)
class _Added:
    """What a product of `alpha` is added to: `values`, of the result's shape, times `beta`; 0 means not looked at, be
    they NaN."""

    values: Tensor
    beta: float
    alpha: float

    def to(self, product: Tensor, rows: slice, columns: slice) -> Tensor:
        scaled = product.mul_(self.alpha)
        return scaled if self.beta == 0 else scaled.add_(self.values[rows, columns], alpha=self.beta)


def _multiply(left: Tensor, right: Tensor, out: Tensor, added: _Added | None = None) -> None:
    """Fills `out` with the product of two matrices, block by block."""
    length = left.shape[1]
    for rows in _blocks(left.shape[0], length):
        block = left[rows].float()
        for columns in _blocks(right.shape[1], length):
            product = block @ right[:, columns].float()
            out[rows, columns] = product if added is None else added.to(product, rows, columns)


def _blocks(count: int, length: int) -> Iterator[slice]:
    """`count` rows of that length, block by block."""
    per_block = max(1, min(_BLOCK_WIDTH, BLOCK_ELEMENTS // max(1, length)))
    for first in range(0, count, per_block):
        yield slice(first, min(first + per_block, count))
