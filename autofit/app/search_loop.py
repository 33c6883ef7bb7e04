"""The search in one run folder: asks the policy, runs what it says, and writes every trial down before the next."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from autofit.app.context import Session
from autofit.app.search_space import ProbeRunner, Rehearsals, Resorts, SearchSpace
from autofit.app.trial_memory import TrialMemory
from autofit.domain.event import LadderBuilt, Note, ProbeHeartbeat, ProbeStarted, TrialEnded
from autofit.domain.outcome import Outcome, Phase, is_lasting
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Action, Choose, GiveUp, Probe, Rehearse, Trial
from autofit.planning.plan.last_resorts import resort_text
from autofit.planning.search.exhaustive import exhaustive_choice, next_untried
from autofit.planning.search.noise import busy_text
from autofit.planning.search.warm_start import decide_with_warm_start, is_contradicted
from autofit.planning.setting import Setting


@dataclass(frozen=True)
class SearchResult:
    """What a search came to, and its setting in the end; `trials` are those of its run folder. `is_contradicted`: what
    was remembered of earlier runs is not true any more."""

    action: Choose | GiveUp
    setting: Setting
    trials: tuple[Trial, ...]
    decided_s: float
    is_contradicted: bool


class SearchLoop:
    """One search. `rehearsals` are there where the setting counts some, `resorts` where there may be any."""

    def __init__(
        self,
        space: SearchSpace,
        runner: ProbeRunner,
        session: Session,
        memory: TrialMemory,
        *,
        rehearsals: Rehearsals | None = None,
        resorts: Resorts | None = None,
    ) -> None:
        self._space, self._tried = space, space.tried
        self._runner, self._rehearsals, self._resorts = runner, rehearsals, resorts
        self._folder, self._screen = session.folder, session.screen
        self._memory = memory
        self._before_each: Callable[[], None] = lambda: None
        self._remembered: tuple[Trial, ...] = ()
        self._trials: list[Trial] = []

    def run(self, *, is_exhaustive: bool, before_each: Callable[[], None] = lambda: None) -> SearchResult:
        """Runs to the end of the search, and through everything else that may fit when that is asked for; `before_each`
        is called before anything is tried, and ends the search by what it raises."""
        self._before_each = before_each
        began_at_s = time.monotonic()
        self._screen.show(LadderBuilt(self._space.ladder))
        self._recall()
        action = self._searched()
        while isinstance(action, GiveUp) and self._widen():
            action = self._searched()
        if is_exhaustive and isinstance(action, Choose):
            action = self._exhaust()
        if isinstance(action, GiveUp):
            action = self._with_resorts(action)
        is_wrong = is_contradicted(self._remembered, self._trials, self._space.ladder.device_memory_bytes)
        took_s = time.monotonic() - began_at_s
        return SearchResult(action, self._space.setting, tuple(self._trials), took_s, is_wrong)

    def _searched(self) -> Choose | GiveUp:
        """The end of the search in the space as it is now."""
        for strategy, outcome in self._tried:
            if self._space.ladder.has(strategy):
                self._end(strategy, outcome)
        self._tried = tuple(one for one in self._tried if not self._space.ladder.has(one[0]))
        while not isinstance(action := self._decide(), (Choose, GiveUp)):
            self._do(action)
        return action

    def _widen(self) -> bool:
        """Goes on with the next last resort and all trials; False where there is none."""
        wider = None if self._resorts is None else self._resorts.wider(self._space)
        if wider is None:
            return False
        self._screen.show(Note(resort_text(wider.order, wider.space.ladder)))
        self._screen.show(LadderBuilt(wider.space.ladder))
        self._space, self._runner, self._rehearsals = wider.space, wider.runner, wider.rehearsals
        return True

    def _with_resorts(self, action: GiveUp) -> GiveUp:
        """The end with the last resorts that would help, if memory is what is lacking."""
        if self._resorts is None or not action.is_memory:
            return action
        return replace(action, resorts=self._resorts.named(self._space, self._trials))

    def _recall(self) -> None:
        """The trials of a search that was interrupted in this folder: of today, although the store has them, too. Those
        that came to no end of their own are tried again, but for what was tried on the way here."""
        for trial in self._folder.read_trials():
            if is_lasting(trial.outcome) or (trial.strategy, trial.outcome) in self._tried:
                self._trials.append(trial)
                self._screen.show(TrialEnded(trial, is_remembered=True))
        own = {(trial.strategy, trial.outcome) for trial in self._trials}
        self._tried = tuple(one for one in self._tried if one not in own)
        self._remembered = tuple(trial for trial in self._memory.recall() if (trial.strategy, trial.outcome) not in own)

    def _decide(self) -> Action:
        space = self._space
        return decide_with_warm_start(space.ladder, self._remembered, self._trials, space.setting, space.goal)

    def _do(self, action: Probe | Rehearse) -> None:
        self._before_each()
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
        trial = Trial(strategy, self._space.ladder.estimate(strategy), outcome, is_rehearsal)
        self._trials.append(trial)
        self._folder.append_trial(trial)
        self._memory.remember(trial)
        self._screen.show(TrialEnded(trial))
        if (note := busy_text(trial)) is not None:
            self._screen.show(Note(note))

    def _exhaust(self) -> Choose | GiveUp:
        ladder, setting = self._space.ladder, self._space.setting
        while (strategy := next_untried(ladder, self._trials, setting)) is not None:
            self._do(Probe(strategy, "everything that may fit is probed"))
        if isinstance(ended := self._decide(), GiveUp):  # after a choice that nothing was probed for
            return ended
        return Choose(exhaustive_choice(ladder, self._trials, setting, self._space.goal))
