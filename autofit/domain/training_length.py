"""How long somebody else's script trains: what its line says of that, what it shows, and what both come to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """A number that the user wrote, and where, as people read it: `--max_steps`, `max_steps in recipe.yaml`."""

    value: float
    by: str


@dataclass(frozen=True)
class SaidLength:
    """What a script's command line says of its length, or a recipe that it names."""

    steps: Said | None = None  # optimizer steps
    epochs: Said | None = None


@dataclass(frozen=True)
class SeenLength:
    """What a script shows of its length when it is looked at as it is; None for what it does not show."""

    trainer_steps: int | None = None  # optimizer steps in all, as transformers' Trainer counts them
    epoch_rows: int | None = None  # of one rank: the batches of its loader, each one micro-batch
    scheduler_steps: int | None = None  # optimizer steps at whose end its learning-rate schedule ends


@dataclass(frozen=True)
class TrainingLength:
    """The optimizer steps of a training, and what says so; None where nothing does: an hour is assumed then."""

    step_count: int | None = None
    by: str = ""
