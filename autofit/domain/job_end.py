"""How a job that was handed over to DeepSpeed's launcher came to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from .outcome import Failure


@dataclass(frozen=True)
class Completed:
    """DeepSpeed's launcher ended without a complaint."""


@dataclass(frozen=True)
class Interrupted:
    """A signal that was sent to us, and that was forwarded, ended the job."""

    signal: int


@dataclass(frozen=True)
class JobEnd:
    """The end of a job that was handed over; `exit_code` is what we leave with, -n for signal n, of which we should
    die."""

    exit_code: int
    end: Union[Completed, Interrupted, Failure]
