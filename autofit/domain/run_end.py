"""How what runs after a search came to its end: autofit's own training, or a job that was handed over."""

from __future__ import annotations

from dataclasses import dataclass
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
class Completed:
    """DeepSpeed's launcher ended without a complaint."""


@dataclass(frozen=True)
class Interrupted:
    """A signal that was sent to us, and that was forwarded, ended the job."""

    signal: int


RunFailure = Union[Failure, NoModel, MergeFailed]

RunEnd = Union[TrainingEnded, RunFailure]
"""How autofit's own training ends. A signal for us is no end of it: it comes up as an exception wherever we wait."""


@dataclass(frozen=True)
class JobEnd:
    """The end of a job that was handed over; `exit_code` is what we leave with, -n for signal n, of which we should
    die."""

    exit_code: int
    end: Union[Completed, Interrupted, Failure]
