"""What the history says of one rung."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from autofit.domain.ending import CALLED
from autofit.domain.ladder import Ladder, Step
from autofit.domain.outcome import (
    BROKEN,
    Crashed,
    DeviceLost,
    DiskFull,
    Killed,
    Measured,
    NotFinite,
    OutOfMemory,
    Phase,
    Place,
    SignalCrash,
    Unsupported,
    UserFault,
)
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trial import Trial
from autofit.planning.plan.fit import fits

from .noise import together

_CRASHES = (Crashed, Killed, SignalCrash)
_COMPLAINTS = (Crashed, Unsupported, DiskFull, DeviceLost, NotFinite, UserFault)
"""Ends of which the same words of several rungs say that the fault is not the rung's."""


@dataclass(frozen=True)
class RungHistory:
    """One rung of the ladder and its trials, oldest first; `rehearsals` tell of memory, not of what can be chosen."""

    step: Step
    device_bytes: int
    trials: tuple[Trial, ...] = ()
    rehearsals: tuple[Trial, ...] = ()

    @property
    def rung(self) -> Rung:
        return self.step.rung

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The rung's strategies, smallest micro-batch first."""
        return self.step.strategies

    @cached_property
    def tried(self) -> frozenset[Strategy]:
        """The strategies that a probe went through with, or failed; what was outpaced may be taken up again."""
        return frozenset(trial.strategy for trial in self.trials) - self._outpaced

    @cached_property
    def speeds(self) -> dict[Strategy, Measured]:
        """The strategies that fit, with what was measured of them, however far their probes went: of several that came
        to their end, what they say together."""
        too_large = {trial.strategy for trial in self.trials if self.has_shown_too_large(trial)}
        found: dict[Strategy, list[Measured]] = {}
        for trial in self.trials:
            if isinstance(trial.outcome, Measured) and trial.strategy not in too_large:
                found.setdefault(trial.strategy, []).append(trial.outcome)
        return {strategy: _as_one(outcomes) for strategy, outcomes in found.items()}

    @cached_property
    def measurements(self) -> dict[Strategy, Measured]:
        """The strategies that fit as far as a whole probe shows: those that may be chosen."""
        return {strategy: outcome for strategy, outcome in self.speeds.items() if not outcome.is_outpaced}

    def is_outpaced(self, strategy: Strategy) -> bool:
        """Whether all that is known of it is that it was too slow."""
        return strategy in self._outpaced

    @cached_property
    def _outpaced(self) -> frozenset[Strategy]:
        last = {trial.strategy: trial.outcome for trial in self.trials}
        return frozenset(
            strategy for strategy, outcome in last.items() if isinstance(outcome, Measured) and outcome.is_outpaced
        )

    @cached_property
    def too_large_strategies(self) -> tuple[Strategy, ...]:
        """The strategies for which the device was too small."""
        return tuple(trial.strategy for trial in (*self.trials, *self.rehearsals) if self.has_shown_too_large(trial))

    @cached_property
    def rehearsed_strategies(self) -> tuple[Strategy, ...]:
        """The strategies for which the device was large enough with one rank alone."""
        alone = [trial for trial in self.rehearsals if isinstance(trial.outcome, Measured)]
        return tuple(trial.strategy for trial in alone if not self.has_shown_too_large(trial))

    def has_shown_too_large(self, trial: Trial) -> bool:
        """Whether the trial says that the device is too small for its strategy."""
        outcome = trial.outcome
        if isinstance(outcome, Measured):
            return not fits(outcome, self.device_bytes)
        return isinstance(outcome, OutOfMemory) and outcome.place is Place.DEVICE

    @cached_property
    def has_failed_on_host(self) -> bool:
        return self._has_lacked(Place.HOST)

    def _has_lacked(self, place: Place) -> bool:
        return any(isinstance(trial.outcome, OutOfMemory) and trial.outcome.place is place for trial in self.trials)

    @cached_property
    def retry(self) -> Strategy | None:
        """The strategy whose only trial so far crashed before any of our work began."""
        crashes = [trial.strategy for trial in self.trials if isinstance(trial.outcome, _CRASHES)]
        if not self.trials or not isinstance(self.trials[-1].outcome, _CRASHES) or len(crashes) > 1:
            return None
        return self.trials[-1].strategy if self.trials[-1].outcome.phase is Phase.START else None

    @property
    def is_stuck(self) -> bool:
        """Whether it failed for a reason that no micro-batch mends; says nothing of whether it fits."""
        is_broken = any(isinstance(trial.outcome, BROKEN) for trial in self.trials)
        is_short = self.has_failed_on_host or self._has_lacked(Place.SHARED)
        return is_short or (is_broken and not self._has_recovered)

    @property
    def complaint(self) -> str | None:
        """The last words of a rung whose ranks said why they cannot go on."""
        outcomes = [trial.outcome for trial in self.trials if isinstance(trial.outcome, _COMPLAINTS)]
        if not outcomes:
            return None
        last = outcomes[-1]
        return CALLED[DiskFull] if isinstance(last, DiskFull) else last.why  # which names a file of its own each time

    @property
    def _has_recovered(self) -> bool:
        """Whether there was a single crash at the start, and a later trial that did not end so."""
        ends = [trial.outcome for trial in self.trials if isinstance(trial.outcome, BROKEN)]
        is_start = len(ends) == 1 and isinstance(ends[0], _CRASHES) and ends[0].phase is Phase.START
        return is_start and ends[0] is not self.trials[-1].outcome


def _as_one(outcomes: Sequence[Measured]) -> Measured:
    whole = [one for one in outcomes if not one.is_outpaced]
    return together(whole) if len(whole) > 1 else (whole or outcomes)[-1]


def histories(ladder: Ladder, trials: Sequence[Trial]) -> tuple[RungHistory, ...]:
    """One history for each step, in the ladder's order; trials of strategies that the ladder does not have are passed
    over."""
    return tuple(_history(step, ladder.device_memory_bytes, trials) for step in ladder.steps)


def _history(step: Step, device_bytes: int, trials: Sequence[Trial]) -> RungHistory:
    of_it = [trial for trial in trials if trial.strategy in step.strategies]
    return RungHistory(
        step,
        device_bytes,
        tuple(trial for trial in of_it if not trial.is_rehearsal),
        tuple(trial for trial in of_it if trial.is_rehearsal),
    )
