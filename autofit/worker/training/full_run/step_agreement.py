"""What all ranks of a full run do together after a step, because one of them wants it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Wish(Protocol):
    """What one rank may want alone, by its clock or a signal that it heard, and what only all can do."""

    def is_wanted(self, state: TrainerState) -> bool:
        """Whether this rank wants it after this step."""

    def grant(self, state: TrainerState, control: TrainerControl) -> None:
        """Does it; called on every rank after the same step."""


class StepAgreement(TrainerCallback):
    """Asks every rank for its wishes after each step, in one small collective, and grants on all what one wants."""

    def __init__(self, wishes: Sequence[Wish], device: torch.device) -> None:
        self._wishes = wishes
        self._device = device

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        wanted = agreed([wish.is_wanted(state) for wish in self._wishes], self._device)
        for wish, is_wanted in zip(self._wishes, wanted, strict=True):
            if is_wanted:
                wish.grant(state, control)


def agreed(wanted: Sequence[bool], device: torch.device) -> list[bool]:
    """Which of these any rank wants; a collective, in which each rank names as many."""
    flags = torch.tensor(wanted, dtype=torch.int32, device=device)
    if dist.is_initialized():
        dist.all_reduce(flags, dist.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]
