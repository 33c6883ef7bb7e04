"""What is known at one moment of the search: the ladder, its histories, and what the trials taught."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

from autofit.domain.estimate import Estimate, MemoryEstimate
from autofit.domain.goal import AN_HOUR, Certainty, Goal
from autofit.domain.hardware import DeviceKind
from autofit.domain.ladder import Ladder
from autofit.domain.objective import Objective
from autofit.domain.outcome import Measured, OutOfMemory, Place
from autofit.domain.strategy import Change, Strategy
from autofit.domain.trial import Trial
from autofit.planning.asked_once import AskedOnce
from autofit.planning.memory.cpu_heap import quick_up_to_bytes
from autofit.planning.memory.device_share import sized_for
from autofit.planning.memory.interval import HEADROOM
from autofit.planning.memory.peak_memory import estimate_memory, is_whole_peak
from autofit.planning.plan.baseline import counted_token_j
from autofit.planning.probe_steps import is_uniform
from autofit.planning.setting import Setting
from autofit.planning.speed.clearing import clearing_s

from .error_model import log_speed, memory_effects, middle_bytes, speed_effects
from .noise import ENERGY_NOISE, MEMORY_NOISE, seen_noise
from .posterior import Effect, Normal, Posterior
from .power_model import power_effects
from .rung_history import RungHistory, histories

WORTH = 0.03
"""The least relative gain for which a search goes on that is not about time, unless it is told: no second that a probe
takes can be weighed against a byte."""


@dataclass(frozen=True)
class SearchState(AskedOnce):
    ladder: Ladder
    setting: Setting
    trials: tuple[Trial, ...]
    histories: tuple[RungHistory, ...]
    goal: Goal = AN_HOUR

    @staticmethod
    def of(ladder: Ladder, trials: Sequence[Trial], setting: Setting, goal: Goal = AN_HOUR) -> SearchState:
        """The state by the trials of what is on the ladder: others tell of what is tried after it or was before."""
        on_ladder = tuple(trial for trial in trials if ladder.has(trial.strategy))
        if setting.request.objective is not Objective.SPEED and not isinstance(goal, Certainty):
            goal = Certainty(WORTH)
        return SearchState(ladder, setting, on_ladder, histories(ladder, on_ladder), goal)

    def changing(self, change: Change) -> tuple[RungHistory, ...]:
        """The rungs that change so much of the plain training."""
        return tuple(history for history in self.histories if history.rung.change is change)

    @property
    def objective(self) -> Objective:
        return self.setting.request.objective

    @property
    def probe_count(self) -> int:
        return sum(len(history.trials) for history in self.histories)

    @property
    def device_bytes(self) -> int:
        return self.ladder.device_memory_bytes

    @cached_property
    def has_measured(self) -> bool:
        return any(isinstance(trial.outcome, Measured) for trial in self.trials)

    @cached_property
    def counts_energy(self) -> bool:
        """Whether every probe that came to its end counted its energy, and one did."""
        ended = [one for history in self.histories for one in history.measurements.values()]
        return bool(ended) and all(counted_token_j(one, self.setting.kind) is not None for one in ended)

    @cached_property
    def tokens_per_step(self) -> float:
        """The real tokens of an optimizer step: as the probes counted them where the data was not surveyed."""
        outcomes = [trial.outcome for trial in self.trials if not trial.is_rehearsal]
        counted = [outcome.tokens_per_s * outcome.step_s for outcome in outcomes if isinstance(outcome, Measured)]
        if counted and not self.setting.is_surveyed:
            return median(counted)
        return self.ladder.steps[0].estimates[0].speed.tokens_per_step

    @cached_property
    def too_large_strategies(self) -> tuple[Strategy, ...]:
        return tuple(strategy for history in self.histories for strategy in history.too_large_strategies)

    @cached_property
    def rehearsed_strategies(self) -> frozenset[Strategy]:
        """The strategies that have fitted with one rank alone."""
        return frozenset(strategy for history in self.histories for strategy in history.rehearsed_strategies)

    def is_outpaced(self, strategy: Strategy) -> bool:
        """Whether all that is known of it is that it was too slow."""
        return any(history.is_outpaced(strategy) for history in self.histories)

    def has_been_probed(self, strategy: Strategy) -> bool:
        return any(trial.strategy == strategy for history in self.histories for trial in history.trials)

    @property
    def is_uniform(self) -> bool:
        """Whether a probe's last memory step is like those after it."""
        return is_uniform(self.setting.kind, has_even_rows=not self.setting.is_padded)

    def knows_seconds(self, strategy: Strategy) -> bool:
        """Whether its expected speed is one in tokens/s, and not only relative to those of others."""
        return self.has_measured or self.ladder.estimate(strategy).speed.is_absolute

    def memory(self, strategy: Strategy) -> Normal:
        """The distribution of the device's peak, in bytes."""
        return self.once((SearchState.memory, strategy), lambda: self._believed_memory(strategy))

    def _believed_memory(self, strategy: Strategy) -> Normal:
        estimate = self.ladder.estimate(strategy).memory
        error = self._memory.predict(memory_effects(strategy, estimate, self.device_bytes))
        return Normal(middle_bytes(estimate) + error.mean * self.device_bytes, error.std * self.device_bytes)

    def chance(self, strategy: Strategy) -> float:
        """The chance that it fits."""
        return self.memory(strategy).chance_below((1 - HEADROOM) * self.device_bytes)

    def log_speed(self, strategy: Strategy) -> Normal:
        """The distribution of the logarithm of its tokens/s."""
        return self.once((SearchState.log_speed, strategy), lambda: self._believed_log_speed(strategy))

    def _believed_log_speed(self, strategy: Strategy) -> Normal:
        error = self._speed.predict(self._effects(strategy))
        return Normal(self._log_prior(strategy) + error.mean, error.std)

    def log_gain(self, strategy: Strategy, over: Strategy) -> Normal:
        """The distribution of the logarithm of its speed ÷ that of `over`: what they share cancels."""
        ours, theirs = self._effects(strategy), self._effects(over)
        opposite = [replace(effect, weight=-effect.weight) for effect in theirs]
        error = self._speed.predict([*ours, *opposite])
        return Normal(self._log_prior(strategy) - self._log_prior(over) + error.mean, error.std)

    def log_power(self, strategy: Strategy) -> Normal:
        """The distribution of the logarithm of the watts that all devices take together; before energy was counted it
        only tells strategies apart."""
        return self._power.predict(power_effects(strategy))

    def _effects(self, strategy: Strategy) -> tuple[Effect, ...]:
        return speed_effects(strategy, self._timed(strategy))

    def _log_prior(self, strategy: Strategy) -> float:
        return log_speed(strategy, self._timed(strategy))

    def _timed(self, strategy: Strategy) -> Estimate:
        """Its estimate, with the seconds that hang on its memory by what the trials say of that."""
        estimate = self.ladder.estimate(strategy)
        if self.setting.kind is not DeviceKind.CPU:
            return estimate
        chance = 1 - self.memory(strategy).chance_below(quick_up_to_bytes(self._base_bytes, self.device_bytes))
        speed = estimate.speed
        return replace(estimate, speed=replace(speed, clearing_s=clearing_s(speed.compute_s, chance)))

    @cached_property
    def _base_bytes(self) -> float:
        """What a rank holds before its model is built."""
        seen = [trial.outcome.base_bytes for trial in self.trials if isinstance(trial.outcome, Measured)]
        return median(seen) if seen else self.setting.runtime_bytes

    @cached_property
    def _memory(self) -> Posterior:
        posterior = Posterior()
        for trial in self.trials:
            posterior = self._memory_after(posterior, trial)
        return posterior

    def _memory_after(self, posterior: Posterior, trial: Trial) -> Posterior:
        estimate, outcome = self._estimate(trial), trial.outcome
        effects = memory_effects(trial.strategy, estimate, self.device_bytes)
        if isinstance(outcome, Measured):
            error = (outcome.peak_device_bytes - middle_bytes(estimate)) / self.device_bytes
            if is_whole_peak(outcome, estimate):
                return posterior.observe(effects, error, MEMORY_NOISE)
            return posterior.observe_above(effects, error)
        if isinstance(outcome, OutOfMemory) and outcome.place is Place.DEVICE:
            needed_bytes = self.device_bytes + (outcome.requested_bytes or 0)
            return posterior.observe_above(effects, (needed_bytes - middle_bytes(estimate)) / self.device_bytes)
        return posterior

    def _estimate(self, trial: Trial) -> MemoryEstimate:
        """The estimate of what was tried: a rehearsal has no communicator, and is always rank 0."""
        if trial.is_rehearsal:
            sized = sized_for(trial.strategy, self.setting)
            return estimate_memory(trial.strategy, sized, is_rehearsal=True)
        return self.ladder.estimate(trial.strategy).memory

    @cached_property
    def _speed(self) -> Posterior:
        posterior = Posterior()
        for trial in self.trials:
            if isinstance(trial.outcome, Measured):
                estimate = self._timed(trial.strategy)
                expected = log_speed(trial.strategy, estimate, is_rehearsal=trial.is_rehearsal)
                error = math.log(trial.outcome.tokens_per_s) - expected
                effects = speed_effects(trial.strategy, estimate, is_rehearsal=trial.is_rehearsal)
                posterior = posterior.observe(effects, error, seen_noise(trial.outcome, self.trials))
        return posterior

    @cached_property
    def _power(self) -> Posterior:
        posterior = Posterior()
        for trial in self.trials:
            outcome = trial.outcome
            token_j = counted_token_j(outcome, self.setting.kind) if isinstance(outcome, Measured) else None
            if isinstance(outcome, Measured) and token_j and not trial.is_rehearsal:
                power_w = token_j * outcome.tokens_per_s
                posterior = posterior.observe(power_effects(trial.strategy), math.log(power_w), ENERGY_NOISE)
        return posterior
