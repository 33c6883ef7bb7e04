"""What a probe takes: its steps by the speed that is expected of it, and all else as in the trials so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from autofit.domain.outcome import Measured
from autofit.domain.strategy import Strategy
from autofit.domain.task import Task
from autofit.domain.trial import Trial
from autofit.planning.probe_steps import MEASURE_S, evaluation_s, probed_accumulation, probed_steps_s

START_S = 6.0
"""What a probe of a small model takes beside its steps: 5 to 8 s on two CPU ranks (benchmarks/probe_cost.py). Counts
before anything was tried."""


@dataclass(frozen=True)
class ProbeCost:
    """`beside_s` is all but the steps: start, build, evaluation and save."""

    beside_s: float
    tokens_per_step: float  # of an optimizer step of the global batch
    is_uniform: bool  # a long memory step is measured itself
    task: Task = Task.SFT
    has_evaluation: bool = False

    @staticmethod
    def of(
        trials: Sequence[Trial],
        tokens_per_step: float,
        *,
        is_uniform: bool = False,
        task: Task = Task.SFT,
        has_evaluation: bool = False,
    ) -> ProbeCost:
        """The median of what `trials` took beside their steps; what was outpaced did not go through all of it."""
        prior = ProbeCost(START_S, tokens_per_step, is_uniform, task, has_evaluation)
        timed = [trial for trial in trials if trial.outcome.total_s > 0 and not _is_outpaced(trial)]
        return replace(prior, beside_s=median(map(prior._beside_s, timed))) if timed else prior

    def seconds(self, strategy: Strategy, tokens_per_s: float, measure_s: float = MEASURE_S) -> float:
        """The seconds of a probe of `strategy` that comes to its end."""
        return self.beside_s + self._steps_s(strategy, tokens_per_s, measure_s)

    def failed_start_s(self, strategy: Strategy, tokens_per_s: float) -> float:
        """The seconds of a training that runs out of memory at its start: its processes start, and those of the probes
        once more."""
        return 2 * self.beside_s + self._micro_step_s(strategy, tokens_per_s)

    def _beside_s(self, trial: Trial) -> float:
        outcome = trial.outcome
        if not isinstance(outcome, Measured):
            return outcome.total_s
        step_s, count = self.step_s(trial.strategy, outcome.tokens_per_s), outcome.step_count or 1
        measured_s = max(MEASURE_S, count * step_s) if count > 1 else MEASURE_S
        return max(0.0, outcome.total_s - self._steps_s(trial.strategy, outcome.tokens_per_s, measured_s))

    def _micro_step_s(self, strategy: Strategy, tokens_per_s: float) -> float:
        return self.tokens_per_step / strategy.gradient_accumulation / tokens_per_s

    def step_s(self, strategy: Strategy, tokens_per_s: float) -> float:
        """The seconds of a probe's optimizer step."""
        accumulation = probed_accumulation(strategy.gradient_accumulation, self.task)
        return self._micro_step_s(strategy, tokens_per_s) * accumulation

    def _steps_s(self, strategy: Strategy, tokens_per_s: float, measure_s: float) -> float:
        micro_step_s = self._micro_step_s(strategy, tokens_per_s)
        steps_s = probed_steps_s(micro_step_s, strategy, self.task, measure_s, is_uniform=self.is_uniform)
        return steps_s + (evaluation_s(micro_step_s) if self.has_evaluation else 0.0)


def _is_outpaced(trial: Trial) -> bool:
    return isinstance(trial.outcome, Measured) and trial.outcome.is_outpaced
