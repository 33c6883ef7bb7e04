"""The probes of a comparison: the baseline first, then one optimization after the other."""

from __future__ import annotations

from autofit.app.context import Context, Session
from autofit.app.opened_training import opened
from autofit.app.search_space import ProbeRunner
from autofit.app.trial_memory import TrialMemory
from autofit.domain.comparison import Compared, DoesNotFit, Failed, NotCompared, Row, Standing, TaskComparison
from autofit.domain.efficiency import Rated
from autofit.domain.errors import AutofitError
from autofit.domain.outcome import Measured, Outcome, OutOfMemory
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Probe, Trial
from autofit.domain.units import brief_seconds
from autofit.planning.plan.baseline import measured_cost
from autofit.planning.plan.fit import fits
from autofit.planning.plan.lineup import Lineup, RuledOut, line_up
from autofit.planning.plan.predicted_comparison import as_predicted
from autofit.planning.search.noise import busy_text
from autofit.planning.setting import Setting
from autofit.planning.space.ladder_builder import estimate_of
from autofit.report.outcome_text import verdict_text

MOST_FAILURES = 3
"""The baselines that may fail for another reason than memory: what is wrong then is not the strategy."""


def probe_comparison(context: Context, session: Session, heartbeat_timeout_s: float) -> tuple[Context, TaskComparison]:
    """Measures the comparison of the request's task here, and frees the machine before it returns; the context has the
    model described.

    UsageError when something of the model or the data must be changed first, or when no strategy has the name of the
    baseline; another AutofitError when no probe runs.
    """
    with opened(context, session) as there:
        runner = there.runner(there.setting, session, heartbeat_timeout_s)
        probes = _ComparisonProbes(there.setting, runner, session, there.memory)
        return there.context, probes.run()


class _ComparisonProbes:
    """The probes of one task, each written down before the next."""

    def __init__(self, setting: Setting, runner: ProbeRunner, session: Session, memory: TrialMemory) -> None:
        self._setting, self._runner, self._session, self._memory = setting, runner, session, memory
        self._trials: list[Trial] = []

    def run(self) -> TaskComparison:
        """Probes what may be the baseline, from the plainest, until one fits, and then the others beside it; where none
        does, all of it is predicted. AutofitError when they fail for another reason than memory."""
        ruled_out = RuledOut()
        while (lineup := line_up(self._setting, ruled_out)).baseline.fits:
            strategy = lineup.baseline.strategy
            found = self._standing(strategy)
            if isinstance(found, Rated):
                return self._beside(found, lineup)
            ruled_out = ruled_out.after(strategy, has_failed=isinstance(found, Failed))
            if isinstance(found, Failed) and len(ruled_out.broken) >= MOST_FAILURES:
                raise AutofitError(self._failed_text(found))
        return as_predicted(lineup, self._setting)

    def _failed_text(self, last: Failed) -> str:
        what = f"Nothing could be compared for --task {self._setting.request.task.value}"
        return f"{what}: {last.strategy} {last.why}; the logs of its probes are in {self._session.folder.logs}."

    def _beside(self, baseline: Rated, lineup: Lineup) -> TaskComparison:
        rows = tuple(Row(name, self._row(one, baseline)) for name, one in lineup.others)
        return TaskComparison(self._setting.request, baseline, rows, lineup.why)

    def _row(self, one: Strategy | NotCompared, baseline: Rated) -> Standing:
        if isinstance(one, NotCompared):
            return one
        found = self._standing(one)
        return Compared(found, found.over(baseline)) if isinstance(found, Rated) else found

    def _standing(self, strategy: Strategy) -> Rated | DoesNotFit | Failed:
        """What a probe shows of a strategy."""
        outcome, device_bytes = self._probe(strategy), self._setting.device_memory_bytes
        words = verdict_text(outcome, device_bytes)
        if isinstance(outcome, Measured) and fits(outcome, device_bytes):
            return Rated(strategy, measured_cost(outcome, self._setting.kind))
        if isinstance(outcome, (Measured, OutOfMemory)):
            return DoesNotFit(strategy, words)
        return Failed(strategy, words)

    def _probe(self, strategy: Strategy) -> Outcome:
        outcome = self._runner.probe(Probe(strategy, "compared"), self._trials, lambda phase: None)
        trial = Trial(strategy, estimate_of(strategy, self._setting), outcome)
        self._trials.append(trial)
        self._session.folder.append_trial(trial)
        self._memory.remember(trial)
        self._tell(trial)
        return outcome

    def _tell(self, trial: Trial) -> None:
        outcome, task = trial.outcome, self._setting.request.task.value
        words = verdict_text(outcome, self._setting.device_memory_bytes)
        self._session.tell(f"{task} · {trial.strategy}: {words} (in {brief_seconds(outcome.total_s)})")
        if (note := busy_text(trial)) is not None:
            self._session.tell(note)
