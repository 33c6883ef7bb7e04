"""What a search is for, and so when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class TimeToEnd:
    """The least expected time from now to the end of a training of `step_count` optimizer steps; None: of an hour."""

    step_count: int | None = None


AN_HOUR = TimeToEnd()


@dataclass(frozen=True)
class Certainty:
    """A choice that nothing left can beat by more than `gain` (0.01: 1 %), whatever it takes."""

    gain: float


Goal = Union[TimeToEnd, Certainty]
