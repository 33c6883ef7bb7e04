"""How long a script would train: as its trainer, its loader and its learning-rate schedule have it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import accelerate
import transformers
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from autofit.worker.script.side_effects import MANY_STEPS, asked_steps


def watch_trainer(tell: Callable[[int], None]) -> None:
    """Patches this process, before the script runs. `tell` is told the optimizer steps that transformers' Trainer would
    take."""
    values = transformers.Trainer.set_initial_training_values

    @functools.wraps(values)
    def told(self: transformers.Trainer, args: transformers.TrainingArguments, dataloader: DataLoader[Any]) -> Any:
        steps = _trainer_steps(lambda asked: values(self, asked, dataloader)[-1], args)
        if steps is not None:
            tell(steps)
        return values(self, args, dataloader)

    transformers.Trainer.set_initial_training_values = told


def _trainer_steps(count: Callable[[Any], int], args: transformers.TrainingArguments) -> int | None:
    """The steps with what the user asked for in the place of the probe's own limit; None where that is not known."""
    asked = copy.copy(args)
    if args.max_steps == MANY_STEPS:
        steps = asked_steps(args)
        if steps is None:
            return None
        asked.max_steps = steps
    try:
        return count(asked)
    except ValueError:  # a stream of data without a number of steps, which the training itself refuses
        return None


def epoch_batches(loader: DataLoader[Any]) -> int | None:
    """The batches of an epoch; None for a stream of data."""
    try:
        return len(loader)
    except TypeError:
        return None


def scheduler_steps(scheduler: Any) -> int | None:
    """The optimizer steps at whose end a schedule that the engine turns ends; None where it has none.

    accelerate's examples multiply it by the number of ranks: with accelerate it says nothing.
    """
    if scheduler is None or accelerate.state.is_initialized():
        return None
    named = next(iter(getattr(scheduler, "lr_lambdas", ())), None)
    found = getattr(scheduler, "total_num_steps", None)  # of DeepSpeed's own
    if isinstance(scheduler, OneCycleLR):
        found = scheduler.total_steps
    elif isinstance(named, functools.partial):  # of transformers' get_…_schedule_with_warmup
        found = named.keywords.get("num_training_steps")
    return found if isinstance(found, int) and found > 0 else None
