"""ZeRO-3: a parameter's elements are divided among the ranks, and each rank updates its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional

from autofit.worker.saving.partition import own_slice

from .fused_optimizer import FusedOptimizer
from .rule import ParameterSlice


class PartitionedOptimizer(FusedOptimizer):
    """Divides the sum of each gradient among the ranks as the parameter is.

    A parameter that is whole on every rank meanwhile, as it is in its module's backward pass, is then another there;
    nobody looks at it before it is gathered anew.
    """

    group: Any = None  # of the ranks that divide the parameters; None: all

    def _zeros(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        divided: Any = parameter
        return torch.zeros(divided.ds_shape, dtype=divided.ds_tensor.dtype, device=divided.ds_tensor.device)

    def _own_part(self, gradient: torch.Tensor, parameter: torch.nn.Parameter) -> torch.Tensor:
        divided: Any = parameter
        rank_count, length = dist.get_world_size(self.group), divided.ds_tensor.ds_numel
        whole = gradient.view(-1)
        if padding := length * rank_count - divided.ds_numel:
            whole = functional.pad(whole, (0, padding))
        own = whole.narrow(0, length * divided.ds_zero_partition_rank, length)
        dist.reduce_scatter_tensor(own, whole, group=self.group)
        count = own_slice(parameter).elements.numel()  # without what pads the last one
        return own[:count] / rank_count

    def _mean(self, part: torch.Tensor) -> torch.Tensor:
        return part

    def _slice(self, parameter: torch.nn.Parameter, number: int) -> ParameterSlice:
        own = own_slice(parameter)
        shape: torch.Size = parameter.ds_shape  # type: ignore[attr-defined]
        return ParameterSlice(number, shape, own.elements, own.first, self._add_ranks)

    def _over_ranks(self, squares: torch.Tensor) -> torch.Tensor:
        self._add_ranks(squares)
        return squares

    def _add_ranks(self, sums: torch.Tensor) -> None:
        dist.all_reduce(sums, group=self.group)
