"""What a probe takes: its steps by the speed that is expected of it, and all else as in the trials so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from autofit.domain.outcome import Measured
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.planning.probe_steps import MEASURE_S, MEMORY_STEPS, MIN_MEASURED_STEPS, PROBED_ACCUMULATION

START_S = 6.0
"""What a probe of a small model takes beside its steps: 5 to 8 s on two CPU ranks (benchmarks/probe_cost.py). Counts
before anything was tried."""


@dataclass(frozen=True)
class ProbeCost:
    """`beside_s` is all but the steps: start, build, evaluation and save."""

    beside_s: float
    tokens_per_step: float  # of an optimizer step of the global batch

    @staticmethod
    def of(trials: Sequence[Trial], tokens_per_step: float) -> ProbeCost:
        """The median of what `trials` took beside their steps."""
        prior = ProbeCost(START_S, tokens_per_step)
        taken_s = [prior._beside_s(trial) for trial in trials if trial.outcome.total_s > 0]
        return ProbeCost(median(taken_s), tokens_per_step) if taken_s else prior

    def seconds(self, strategy: Strategy, tokens_per_s: float) -> float:
        """The seconds of a probe of `strategy` that comes to its end."""
        return self.beside_s + self._steps_s(strategy, tokens_per_s)

    def _beside_s(self, trial: Trial) -> float:
        outcome = trial.outcome
        if not isinstance(outcome, Measured):
            return outcome.total_s
        return max(0.0, outcome.total_s - self._steps_s(trial.strategy, outcome.tokens_per_s))

    def _steps_s(self, strategy: Strategy, tokens_per_s: float) -> float:
        """The steps and an evaluation, which is a forward pass."""
        micro_step_s = self.tokens_per_step / strategy.gradient_accumulation / tokens_per_s
        step_s = micro_step_s * min(strategy.gradient_accumulation, PROBED_ACCUMULATION)
        return MEMORY_STEPS * step_s + max(MEASURE_S, MIN_MEASURED_STEPS * step_s) + micro_step_s / 3
