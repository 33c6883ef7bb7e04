"""How autofit's own training came to its end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Union

from .event import TrainingEnded
from .outcome import Failure


@dataclass(frozen=True)
class NoModel:
    """Every rank came to its end, and no weights lie where they should."""

    model_path: str


@dataclass(frozen=True)
class MergeFailed:
    """The training came to its end; its adapter could not be merged into the base model, and is whole."""

    adapter_path: str


@dataclass(frozen=True)
class Preempted:
    """A signal ended the full run, after every rank had saved the same step."""

    step: int | None  # None where it could not be saved, for want of space
    signal: int


@dataclass(frozen=True)
class Unsaved:
    """A signal ended the full run, and the grace was over before every rank had saved."""

    signal: int
    grace_s: float


class Requeue(Enum):
    """What a scheduler said to starting a preempted job again."""

    ASKED = "asked"
    NOT_ALLOWED = "not allowed"  # by the job or the cluster, or it has no batch script that could be started again
    ENDING = "ending"  # somebody cancels it, or its time was over: that is decided already
    FAILED = "failed"  # it does not answer, or refuses


RunFailure = Union[Failure, NoModel, MergeFailed]

RunEnd = Union[TrainingEnded, RunFailure]
"""How autofit's own training ends. A signal for us is no end of it: it comes up as an exception wherever we wait."""
