"""Plain data parallelism: every rank has all of a parameter, and updates it by the same gradient."""

from __future__ import annotations

import torch
import torch.distributed as dist

from .fused_optimizer import FusedOptimizer
from .rule import ParameterSlice


class ReplicatedOptimizer(FusedOptimizer):
    """Sums each gradient over all ranks when its step ends; before that each rank keeps its own. Of one process without
    a group there is nothing to sum."""

    def share_weights(self) -> None:
        """Has all ranks begin with the first one's weights."""
        if _rank_count() > 1:
            for parameter in self.parameters:
                dist.broadcast(parameter.data, 0)

    def _zeros(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        return torch.zeros_like(parameter)

    def _own_part(self, gradient: torch.Tensor, parameter: torch.nn.Parameter) -> torch.Tensor:
        return gradient.view(-1)

    def _mean(self, part: torch.Tensor) -> torch.Tensor:
        if _rank_count() > 1:
            dist.all_reduce(part)
            part.div_(_rank_count())
        return part

    def _slice(self, parameter: torch.nn.Parameter, number: int) -> ParameterSlice:
        return ParameterSlice(number, parameter.shape, parameter.data.view(-1), 0, _keep)

    def _over_ranks(self, squares: torch.Tensor) -> torch.Tensor:
        return squares


def _rank_count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _keep(sums: torch.Tensor) -> None:
    """Leaves sums alone that are of whole parameters already."""
