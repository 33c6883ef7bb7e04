"""What is predicted of a request on a machine before anything is tried there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from .efficiency import Rated
from .estimate import Estimate
from .hardware import Hardware
from .model import ModelShape
from .outcome import Measured, Place
from .request import Request
from .resort import Resort
from .strategy import LESS, Strategy
from .trace import SdpaKernel


class Verdict(str, Enum):
    FITS = "fits"  # even if the estimate errs
    PROBE = "probe"  # only a probe can tell
    TOO_LARGE = "too_large"  # even if the estimate errs
    UNSUPPORTED = "unsupported"  # the device, or what is installed, lacks the kernel or the dtype

    @property
    def may_fit(self) -> bool:
        return self in (Verdict.FITS, Verdict.PROBE)


@dataclass(frozen=True)
class Rehearsed:
    """What rank 0 alone showed on the device here, and what a job of all ranks was estimated to add to it."""

    measured: Measured
    communicator_bytes: int
    communication_s: float | None  # a step; None where times of the device here say nothing of the planned one


@dataclass(frozen=True)
class Shortfall:
    """By how many bytes the memory of a place is too small, at the least."""

    place: Place
    short_bytes: int


@dataclass(frozen=True)
class Candidate:
    """One rung at its best micro-batch; `reason` is one short sentence with units. `shortfall` is None where it is not
    too large, or where only a rehearsal without figures says so.

    `is_expected` tells whether its expected peak, error aside, leaves a whole training the room that it needs. Once it
    is `rehearsed`, its estimate holds what was measured. `adamw_peak_bytes` is what AdamW with ZeRO-3 is expected to
    take on a rank for the same rows; None where no update in the backward pass is to be compared with it.
    """

    strategy: Strategy
    estimate: Estimate | None
    verdict: Verdict
    reason: str
    is_expected: bool = False
    rehearsed: Rehearsed | None = None
    shortfall: Shortfall | None = None
    adamw_peak_bytes: int | None = None


@dataclass(frozen=True)
class Rehearsal:
    """What a plan's candidates were rehearsed on; `notes` say, a sentence each, what was not and what stood in."""

    device: str
    count: int  # candidates that were measured or ran out of memory
    is_same_kind: bool  # a GPU for a GPU, a CPU for a CPU: otherwise other kernels ran
    is_timed: bool  # times hold on the machine that is planned for
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A plan: `would_fit` is the smallest change of each kind after which something fits, and `resorts` are the last
    resorts that would.

    Where something fits already, they are what lets all parameters be trained, empty when they can be. `sdpa_kernels`
    are those that torch's own attention was traced with, empty where another kind of attention is taken.
    """

    model: ModelShape
    hardware: Hardware
    request: Request
    choice: Candidate | None
    candidates: tuple[Candidate, ...]  # best first
    would_fit: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rehearsal: Rehearsal | None = None
    sdpa_kernels: tuple[SdpaKernel, ...] = ()
    resorts: tuple[Resort, ...] = ()
    baseline: Rated | None = None  # what ratios are of, as predicted; None where nothing can run at all

    @property
    def verdict(self) -> Verdict:
        """The verdict of the choice; where there is none, of the candidate that comes nearest."""
        return (self.choice or self.candidates[0]).verdict

    @cached_property
    def plain(self) -> Candidate | None:
        """The best candidate that is expected to fit and changes less of the training than the choice, of those that
        change least."""
        choice = self.choice
        changes = () if choice is None else LESS[choice.strategy.rung.change]
        expected = [one for one in self.candidates if one.is_expected]
        return next((one for less in changes for one in expected if one.strategy.rung.change is less), None)

    @property
    def possible(self) -> tuple[Candidate, ...]:
        """The candidates that may fit, sure or not."""
        return tuple(one for one in self.candidates if one.verdict.may_fit)
