"""What a rule updates: a rank's elements of one parameter, by their gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True)
class ParameterSlice:
    """The elements of a parameter that a rank keeps, flat, from the element `first` on; `number` is the parameter's
    among all that are trained. `add_ranks` adds a tensor to those of the other ranks, in place, where they keep the
    rest."""

    number: int
    shape: torch.Size
    weights: torch.Tensor
    first: int
    add_ranks: Callable[[torch.Tensor], None]


@dataclass(frozen=True)
class Step:
    """An optimizer step, by its number from 1; `scale` is what its gradients are multiplied with, to clip them."""

    number: int
    learning_rate: float
    weight_decay: float
    scale: float = 1.0


class Rule(Protocol):
    """How a parameter is updated."""

    def update(self, part: ParameterSlice, gradient: torch.Tensor, step: Step) -> None:
        """Updates the weights in place by the gradient of all ranks' mean, of the same elements. Every rank calls it
        for the same parameters in the same order."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Goes on from what a checkpoint has kept, on the device where the weights are."""


def squares_of(elements: torch.Tensor) -> torch.Tensor:
    """The sum of their squares, in fp32 and without a copy of them in it."""
    norm: torch.Tensor = torch.linalg.vector_norm(elements, dtype=torch.float32)
    return norm.square()
