"""Trials, what the policy answers, and the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from .efficiency import Rated
from .estimate import Estimate
from .outcome import Measured, Outcome
from .resort import Resort
from .strategy import Rung, Strategy


@dataclass(frozen=True)
class Trial:
    """What was tried and what came of it: appended to a history and never edited.

    A rehearsal's memory and times are rank 0's without the communicator's buffers and without communication.
    """

    strategy: Strategy
    estimate: Estimate
    outcome: Outcome
    is_rehearsal: bool = False


@dataclass(frozen=True)
class Unprobed:
    rung: Rung
    reason: str


@dataclass(frozen=True)
class Expected:
    """A speed that was not measured, and the range in which 95 of 100 lie (tokens/s)."""

    tokens_per_s: float
    low: float
    high: float


@dataclass(frozen=True)
class Beside:
    """The fastest strategy that changes less of the plain training than the choice does: measured, or what is expected
    of it."""

    strategy: Strategy
    measured: Measured | None = None
    expected: Expected | None = None  # where it was not measured


@dataclass(frozen=True)
class StepDown:
    """A strategy that the full run has left for one that needs less, and what happened: `step 412 ran out of device
    memory on rank 1`."""

    strategy: Strategy
    why: str


@dataclass(frozen=True)
class Choice:
    """The strategy that runs; `plain` stands beside one that is LoRA or gives something up, when one fits, and ratios
    are of `baseline`.

    `measured` is None where it is sure enough to fit and no probe was worth its time.
    """

    strategy: Strategy
    measured: Measured | None
    why: str
    unprobed: tuple[Unprobed, ...] = ()
    plain: Beside | None = None
    reach_s: float | None = None  # of the longest training for which no further probe pays; None: however long
    is_remembered: bool = False  # as earlier runs measured it: to confirm it was not worth its time
    baseline: Rated | None = None  # None in what was written before there was one
    step_downs: tuple[StepDown, ...] = ()  # what ran before it, the first one first

    @property
    def is_unseen(self) -> bool:
        """Whether nothing of today shows that it fits."""
        return self.measured is None or self.is_remembered

    @property
    def probed(self) -> Measured:
        """What was measured, where something was: of a script nothing is chosen unseen, nor after a trial."""
        assert self.measured is not None
        return self.measured


@dataclass(frozen=True)
class Probe:
    """With `least_tokens_per_s` it may end after its first measured step if it is slower: it cannot be chosen.
    `measure_s` is how long its measured steps should take, all together; None: as long as usual. `step_silence_s` is
    how long its ranks may give no sign of life within a step; None: as long as elsewhere."""

    strategy: Strategy
    why: str
    least_tokens_per_s: float | None = None
    measure_s: float | None = None
    step_silence_s: float | None = None


@dataclass(frozen=True)
class Rehearse:
    """Rank 0 of each of these strategies is to be run, side by side, one a device."""

    strategies: tuple[Strategy, ...]
    why: str


@dataclass(frozen=True)
class Choose:
    choice: Choice


@dataclass(frozen=True)
class GiveUp:
    """Nothing fits: the closest rung, how many bytes it misses (None when unknown), and what would help: changes of the
    request or the machine, and the last resorts that were not tried.

    Without `is_memory` nothing is known to be too large: no probe came to its end, for other reasons.
    """

    why: str
    closest: Strategy | None = None
    needs_bytes: int | None = None
    has_bytes: int | None = None
    would_fit: tuple[str, ...] = ()
    is_memory: bool = True
    resorts: tuple[Resort, ...] = ()


Action = Union[Probe, Rehearse, Choose, GiveUp]
