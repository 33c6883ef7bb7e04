"""The search in one run folder: asks the policy, runs what it says, and writes every trial down before the next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autofit.app.context import Session
from autofit.app.trial_memory import TrialMemory
from autofit.domain.event import LadderBuilt, Note, ProbeHeartbeat, ProbeStarted, TrialEnded
from autofit.domain.goal import AN_HOUR, Goal
from autofit.domain.ladder import Ladder
from autofit.domain.outcome import Outcome, Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Action, Choose, GiveUp, Probe, Rehearse, Trial
from autofit.planning.search.exhaustive import exhaustive_choice, next_untried
from autofit.planning.search.noise import busy_text
from autofit.planning.search.warm_start import decide_with_warm_start, is_contradicted
from autofit.planning.setting import Setting
from autofit.probing.prober import OnHeartbeat, OnRehearsalHeartbeat


class ProbeRunner(Protocol):
    """Runs the probes that the policy asks for; `trials` are those before."""

    def probe(self, probe: Probe, trials: Sequence[Trial], on_heartbeat: OnHeartbeat) -> Outcome: ...


class Rehearsals(Protocol):
    """Runs the rehearsals that the policy asks for; `trials` are those before."""

    def rehearse(
        self, strategies: Sequence[Strategy], trials: Sequence[Trial], on_heartbeat: OnRehearsalHeartbeat
    ) -> tuple[Outcome, ...]: ...


@dataclass(frozen=True)
class SearchSpace:
    """What is searched, in which setting, and what for; `tried` is what was seen of it on the way here."""

    setting: Setting
    ladder: Ladder
    goal: Goal = AN_HOUR
    tried: tuple[tuple[Strategy, Outcome], ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """What a search came to; `trials` are those of its run folder. `is_contradicted`: what was remembered of earlier
    runs is not true any more."""

    action: Choose | GiveUp
    trials: tuple[Trial, ...]
    decided_s: float
    is_contradicted: bool


class SearchLoop:
    """One search. `rehearsals` are there where the setting counts some."""

    def __init__(
        self,
        space: SearchSpace,
        runner: ProbeRunner,
        session: Session,
        memory: TrialMemory,
        *,
        rehearsals: Rehearsals | None = None,
    ) -> None:
        self._setting, self._ladder, self._goal, self._tried = space.setting, space.ladder, space.goal, space.tried
        self._runner, self._rehearsals = runner, rehearsals
        self._folder, self._screen = session.folder, session.screen
        self._memory = memory
        self._remembered: tuple[Trial, ...] = ()
        self._trials: list[Trial] = []

    def run(self, *, is_exhaustive: bool) -> SearchResult:
        """Runs to the end of the search, and through everything else that may fit when that is asked for."""
        began_at_s = time.monotonic()
        self._screen.show(LadderBuilt(self._ladder))
        self._recall()
        for strategy, outcome in self._tried:
            self._end(strategy, outcome)
        while not isinstance(action := self._decide(), (Choose, GiveUp)):
            self._do(action)
        if is_exhaustive and isinstance(action, Choose):
            action = self._exhaust()
        is_wrong = is_contradicted(self._remembered, self._trials, self._ladder.device_memory_bytes)
        return SearchResult(action, tuple(self._trials), time.monotonic() - began_at_s, is_wrong)

    def _recall(self) -> None:
        """The trials of a search that was interrupted in this folder: of today, although the store has them, too."""
        for trial in self._folder.read_trials():
            self._trials.append(trial)
            self._screen.show(TrialEnded(trial, is_remembered=True))
        own = {(trial.strategy, trial.outcome) for trial in self._trials}
        self._remembered = tuple(trial for trial in self._memory.recall() if (trial.strategy, trial.outcome) not in own)

    def _decide(self) -> Action:
        return decide_with_warm_start(self._ladder, self._remembered, self._trials, self._setting, self._goal)

    def _do(self, action: Probe | Rehearse) -> None:
        if isinstance(action, Probe):
            self._probe(action)
        else:
            self._rehearse(action)

    def _probe(self, probe: Probe) -> None:
        self._screen.show(ProbeStarted(probe.strategy, probe.why))
        outcome = self._runner.probe(probe, self._trials, lambda phase: self._beat(probe.strategy, phase))
        self._end(probe.strategy, outcome)

    def _rehearse(self, action: Rehearse) -> None:
        for strategy in action.strategies:
            self._screen.show(ProbeStarted(strategy, action.why, is_rehearsal=True))
        assert self._rehearsals is not None
        outcomes = self._rehearsals.rehearse(action.strategies, self._trials, self._beat)
        for strategy, outcome in zip(action.strategies, outcomes, strict=True):
            self._end(strategy, outcome, is_rehearsal=True)

    def _beat(self, strategy: Strategy, phase: Phase) -> None:
        self._screen.show(ProbeHeartbeat(strategy, phase))

    def _end(self, strategy: Strategy, outcome: Outcome, *, is_rehearsal: bool = False) -> None:
        trial = Trial(strategy, self._ladder.estimate(strategy), outcome, is_rehearsal)
        self._trials.append(trial)
        self._folder.append_trial(trial)
        self._memory.remember(trial)
        self._screen.show(TrialEnded(trial))
        if (note := busy_text(trial)) is not None:
            self._screen.show(Note(note))

    def _exhaust(self) -> Choose | GiveUp:
        while (strategy := next_untried(self._ladder, self._trials, self._setting)) is not None:
            self._probe(Probe(strategy, "everything that may fit is probed"))
        if isinstance(ended := self._decide(), GiveUp):  # after a choice that nothing was probed for
            return ended
        return Choose(exhaustive_choice(self._ladder, self._trials, self._setting, self._goal))
