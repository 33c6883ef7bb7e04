"""What a trace needs to know of a task: what its trainer does to the model, and its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from transformers import PreTrainedModel

from autofit.domain.trace import MicroStep

Batch = dict[str, torch.Tensor]


class TracedTask(ABC):
    """One task; an instance of each stands in `all_tasks`."""

    @abstractmethod
    def prepare(self, model: PreTrainedModel) -> None:
        """Leaves the bare model as the constructor of the task's trainer leaves it for its loss."""

    @abstractmethod
    def batch(self, step: MicroStep) -> Batch:
        """A micro-batch as the task's collator makes it, of ones; called where tensors are fake."""

    def prepare_reference(self, model: PreTrainedModel) -> None:  # noqa: B027  # most tasks have none
        """Does the same to the bare model that is the reference."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, reference: nn.Module | None) -> torch.Tensor:
        """The loss of a micro-batch as the task's trainer computes it, without its metrics; `reference` is None where a
        step has none of its own."""


def token_batch(rows: int, tokens: int, *names: str) -> Batch:
    """So many rows of so many ones under each name."""
    return {name: torch.ones((rows, tokens), dtype=torch.int64) for name in names}
