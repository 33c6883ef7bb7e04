"""A tensor as ZeRO-3 divides it: a rank's slice of its elements, and all of it for a moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from deepspeed.runtime.zero.partition_parameters import GatheredParameters


@dataclass(frozen=True)
class Slice:
    """Elements of a flat tensor, from `first` on."""

    elements: torch.Tensor
    first: int


def is_divided(tensor: torch.Tensor) -> bool:
    """Whether each rank holds a slice of it: under ZeRO-3, of its parameters."""
    return hasattr(tensor, "ds_tensor")


def whole_shape(tensor: torch.Tensor) -> torch.Size:
    return torch.Size(tensor.ds_shape) if is_divided(tensor) else tensor.shape  # type: ignore[attr-defined]


def own_slice(tensor: torch.Tensor) -> Slice:
    """This rank's slice, without what pads the last one; of a divided tensor."""
    part = tensor.ds_tensor  # type: ignore[attr-defined]
    first = part.ds_numel * tensor.ds_zero_partition_rank  # type: ignore[attr-defined]
    count = max(0, min(part.ds_numel, tensor.ds_numel - first))  # type: ignore[attr-defined]
    return Slice(part.detach().narrow(0, 0, count), first)


@contextmanager
def gathered(tensors: Collection[torch.Tensor]) -> Iterator[None]:
    """Has every rank hold the tensors whole until the end of `with`; all ranks enter it with the same ones."""
    with GatheredParameters([tensor for tensor in tensors if is_divided(tensor)]), torch.no_grad():
        yield
