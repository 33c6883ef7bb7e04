"""What is known at one moment of the search: the ladder, its records, and what the trials taught."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.ladder import Ladder
from autofit.domain.outcome import Measured, OutOfMemory, Place
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial

from .belief import Belief, Normal
from .fit import HEADROOM
from .memory import estimate_memory
from .prior import log_speed, memory_terms, middle_bytes, speed_terms
from .record import Record, records
from .setting import Setting

SPEED_NOISE = 0.01
"""Relative standard deviation of a measured speed: two probes of one strategy, a second or two each."""

MEMORY_NOISE = 0.002
"""Of the device's memory: two probes of one strategy."""


@dataclass(frozen=True)
class Search:
    ladder: Ladder
    setting: Setting
    trials: tuple[Trial, ...]
    records: tuple[Record, ...]

    @staticmethod
    def of(ladder: Ladder, trials: Sequence[Trial], setting: Setting) -> Search:
        return Search(ladder, setting, tuple(trials), records(ladder, trials))

    @property
    def probe_count(self) -> int:
        return sum(len(record.trials) for record in self.records)

    @property
    def device_bytes(self) -> int:
        return self.ladder.device_memory_bytes

    @cached_property
    def has_measured(self) -> bool:
        return any(isinstance(trial.outcome, Measured) for trial in self.trials)

    @cached_property
    def too_large(self) -> tuple[Strategy, ...]:
        return tuple(strategy for record in self.records for strategy in record.too_large)

    def memory(self, strategy: Strategy) -> Normal:
        """Of the device's peak, in bytes."""
        estimate = self.ladder.estimate(strategy).memory
        error = self._memory.predict(memory_terms(strategy, estimate, self.device_bytes))
        return Normal(middle_bytes(estimate) + error.mean * self.device_bytes, error.std * self.device_bytes)

    def chance(self, strategy: Strategy) -> float:
        """That it fits."""
        return self.memory(strategy).chance_below((1 - HEADROOM) * self.device_bytes)

    def log_speed(self, strategy: Strategy) -> Normal:
        """Of the logarithm of its tokens/s."""
        estimate = self.ladder.estimate(strategy)
        error = self._speed.predict(speed_terms(strategy, estimate))
        return Normal(log_speed(strategy, estimate) + error.mean, error.std)

    @cached_property
    def _memory(self) -> Belief:
        belief = Belief()
        for trial in self._known:
            belief = self._memory_after(belief, trial)
        return belief

    def _memory_after(self, belief: Belief, trial: Trial) -> Belief:
        estimate, outcome = self._estimate(trial), trial.outcome
        terms = memory_terms(trial.strategy, estimate, self.device_bytes)
        if isinstance(outcome, Measured):
            error_bytes = outcome.peak_device_bytes - middle_bytes(estimate)
            return belief.seen(terms, error_bytes / self.device_bytes, MEMORY_NOISE)
        if isinstance(outcome, OutOfMemory) and outcome.place is Place.DEVICE:
            needed_bytes = self.device_bytes + (outcome.requested_bytes or 0)
            return belief.above(terms, (needed_bytes - middle_bytes(estimate)) / self.device_bytes)
        return belief

    def _estimate(self, trial: Trial) -> MemoryEstimate:
        """Of what was tried: a rehearsal has no communicator, and is always rank 0."""
        if trial.is_rehearsal:
            return estimate_memory(trial.strategy, self.setting, is_rehearsal=True)
        return self.ladder.estimate(trial.strategy).memory

    @cached_property
    def _speed(self) -> Belief:
        belief = Belief()
        for trial in self._known:
            if isinstance(trial.outcome, Measured):
                estimate = self.ladder.estimate(trial.strategy)
                expected = log_speed(trial.strategy, estimate, is_rehearsal=trial.is_rehearsal)
                error = math.log(trial.outcome.tokens_per_s) - expected
                terms = speed_terms(trial.strategy, estimate, is_rehearsal=trial.is_rehearsal)
                belief = belief.seen(terms, error, SPEED_NOISE)
        return belief

    @cached_property
    def _known(self) -> tuple[Trial, ...]:
        """The trials whose strategies the ladder has."""
        on_ladder = {strategy for step in self.ladder.steps for strategy in step.strategies}
        return tuple(trial for trial in self.trials if trial.strategy in on_ladder)


def leader(among: Iterable[Record]) -> Record | None:
    """The rung with the fastest measured strategy; the plainer one, earlier in the ladder, when two are equal."""
    return max((record for record in among if record.points), key=best_tokens_per_s, default=None)


def best_of(record: Record) -> tuple[Strategy, Measured]:
    assert record.best is not None, f"{record.rung} was not measured"
    return record.best


def best_tokens_per_s(record: Record) -> float:
    """0 when nothing of it was measured."""
    return 0.0 if record.best is None else record.best[1].tokens_per_s
