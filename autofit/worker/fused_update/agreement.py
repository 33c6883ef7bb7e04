"""Which gradients come on every rank: only those may be reduced as they come.

Where the data decide what of a model runs (experts that are modules of their own, layers that are dropped), a parameter
may have a gradient on one rank and none on another, and the ranks would wait for each other in different collectives.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Agreement:
    """What becomes of one backward pass, by parameters' numbers; the same on all ranks.

    `late` are used by some ranks and not by others: they are reduced when the pass has ended. `left` are used by none,
    and some rank has kept a gradient of them from micro-batches before.
    """

    late: frozenset[int] = frozenset()
    left: frozenset[int] = frozenset()


class ModuleUse:
    """Hears which modules run forward, and so which of the parameters that are theirs will have a gradient."""

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        """`parameters` are those that are trained, in the order of their numbers."""
        numbers = {parameter: number for number, parameter in enumerate(parameters)}
        self._count = len(numbers)
        self._used: set[int] = set()
        for module in model.modules():
            own = {numbers[one] for one in module.parameters(recurse=False) if one in numbers}
            if own:
                module.register_forward_pre_hook(partial(self._hear, own))

    def _hear(self, numbers: set[int], module: nn.Module, inputs: Any) -> None:
        if module.training:
            self._used |= numbers

    def agree(self, kept: Collection[int], device: torch.device) -> Agreement:
        """Agrees with all ranks on the backward pass that follows; `kept` are the parameters of which this rank has
        kept a gradient. One collective of three bytes a parameter."""
        used, self._used = self._used, set()
        flags = [self._flags(used), 1 - self._flags(used), self._flags(kept)]
        some, some_not, some_kept = _most(torch.stack(flags).to(device)).bool()
        return Agreement(_numbers(some & some_not), _numbers(~some & some_kept))

    def _flags(self, numbers: Collection[int]) -> torch.Tensor:
        flags = torch.zeros(self._count, dtype=torch.uint8)
        flags[list(numbers)] = 1
        return flags


def _most(flags: torch.Tensor) -> torch.Tensor:
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(flags, dist.ReduceOp.MAX)
    return flags.cpu()


def _numbers(flags: torch.Tensor) -> frozenset[int]:
    return frozenset(flags.nonzero().flatten().tolist())
