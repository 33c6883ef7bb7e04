"""Which probes pay for themselves: what each is expected to save of the training that is left, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from autofit.domain.goal import TimeToEnd
from autofit.domain.trial import Trial
from autofit.domain.units import brief_seconds

from .expected_improvement import LEAST_CHANCE, Expectation
from .noise import next_noise
from .probe_cost import ProbeCost
from .search_state import SearchState

UNKNOWN_LENGTH_S = 3600.0
"""A training of which nobody knows how long it is counts as one of an hour."""

_HALVINGS = 40


@dataclass(frozen=True)
class Payoff:
    """What a probe costs, and what it is expected to save of a training of `tokens`, which takes `rest_s` with the best
    so far."""

    of: Expectation
    cost_s: float
    rest_s: float
    tokens: float
    noise: float  # relative, of the speed that the probe would measure
    seen_share: float = 1.0  # of what it is expected to save, what it does

    @cached_property
    def saving_s(self) -> float:
        return self._saving_s(self.rest_s)

    @property
    def gain_s(self) -> float:
        """The seconds that are expected to be won all in all; below 0 the probe does not pay."""
        return self.saving_s - self.cost_s

    @property
    def break_even_s(self) -> float:
        """The length of a training, at the speed of the best so far, from which on the probe pays: it saves in
        proportion."""
        return self.rest_s * self.cost_s / self.saving_s if self.saving_s > 0.0 else math.inf

    def text(self, costs: str = "costs") -> str:
        """As people read it, with the verb of what goes before."""
        return f"{costs} {brief_seconds(self.cost_s)} and is expected to save {brief_seconds(self.saving_s)}"

    @cached_property
    def reservation_s(self) -> float:
        """The time to the end with which one would be as well off without the probe.

        The index of Pandora's problem (Weitzman, Econometrica 1979): probing in its order, and no further than the best
        time found, takes the least expected time where one probe tells nothing of the others. They do here: known
        error, a probe is worth somewhat more than this.
        """
        low, high = math.log(self.tokens / self.of.bound) - 1.0, math.log(self.rest_s)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_enough = self._saving_s(math.exp(middle)) > self.cost_s
            low, high = (low, middle) if is_enough else (middle, high)
        return math.exp(high)

    def _saving_s(self, rest_s: float) -> float:
        return self.seen_share * self.of.expected_saving_s(rest_s, self.tokens, self.noise)


def tokens_left(goal: TimeToEnd, best: float, search: SearchState) -> float:
    """The tokens of the training, whose best speed is `best` tokens/s so far."""
    if goal.step_count is None:
        return UNKNOWN_LENGTH_S * best
    return goal.step_count * search.tokens_per_step


def next_cost(search: SearchState) -> ProbeCost:
    """What the next probe costs."""
    return cost_by(search.trials, search)


def cost_by(trials: Sequence[Trial], search: SearchState) -> ProbeCost:
    """What a probe costs by what these trials took."""
    request = search.setting.request
    return ProbeCost.of(
        trials, search.tokens_per_step,
        is_uniform=search.is_uniform, task=request.task, has_evaluation=request.has_evaluation,
    )  # fmt: skip


def payoffs(
    left: Sequence[Expectation], best: float, goal: TimeToEnd, search: SearchState, *, has_slower: bool = False
) -> tuple[Payoff, ...]:
    """The payoffs of all that is left and may fit and, unless `has_slower`, beat `best` tokens/s."""
    tokens = tokens_left(goal, best, search)
    cost, noise = next_cost(search), next_noise(search.trials)
    return tuple(
        Payoff(one, cost.seconds(one.strategy, one.expected), tokens / best, tokens, noise)
        for one in left
        if one.chance > LEAST_CHANCE and (has_slower or one.bound > best)
    )
