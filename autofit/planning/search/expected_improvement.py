"""What a strategy that was not probed may still bring: expected speed, a bound on it, and the chance that it fits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

from autofit.domain.strategy import KNOBS, Strategy

from .exclusion import exclusion, is_ruled_out
from .rung_history import RungHistory
from .search_state import SearchState

BOUND_STD = 2.0
"""Standard deviations above the expected speed at which the bound lies: 98 of 100 strategies stay below theirs."""

LEAST_CHANCE = 0.02
"""A strategy with a smaller chance to fit is probed only where nothing else fits."""

_LEAST_SPREAD = 1e-6  # beside which one of 0 makes no difference

_LARGEST_EXPONENT = 700.0  # of a floating-point number

_STANDARD = NormalDist()


@dataclass(frozen=True)
class Expectation:
    """What a strategy may bring: `expected` and `bound` are in tokens/s; before anything is measured they are only
    relative."""

    history: RungHistory
    strategy: Strategy
    expected: float
    bound: float
    low: float  # as far below
    chance: float
    spread: float  # standard deviation of log speed
    peak_bytes: float  # expected

    def expected_improvement(self, best: float) -> float:
        """Expected improvement over `best` tokens/s (Jones et al., Efficient Global Optimization, 1998, eq. 15).

        Of a log-normal speed: E[max(0, speed - best)], times the chance that it fits.
        """
        if best <= 0.0:
            return self.chance * self.expected
        mean, std = math.log(self.expected), max(self.spread, _LEAST_SPREAD)
        at = (mean - math.log(best)) / std
        return self.chance * (math.exp(mean + std**2 / 2) * _STANDARD.cdf(at + std) - best * _STANDARD.cdf(at))

    def expected_saving_s(self, rest_s: float, tokens: float, noise: float) -> float:
        """The seconds of `rest_s` that a training of `tokens` is expected to save by a probe that measures with a
        relative error of `noise`: E[max(0, rest_s - tokens / speed)] of a log-normal speed, times the chance that it
        fits.

        Of the spread only that part counts which the probe can tell from its noise.
        """
        spread = max(self.spread, _LEAST_SPREAD)
        told = spread**2 / math.hypot(spread, noise)
        mean = math.log(tokens / self.expected)
        at = (math.log(rest_s) - mean) / told
        return self.chance * (rest_s * _STANDARD.cdf(at) - math.exp(mean + told**2 / 2) * _STANDARD.cdf(at - told))


def expectations(search: SearchState, among: Iterable[RungHistory]) -> tuple[Expectation, ...]:
    """Every strategy of `among` that is not tried and that no trial rules out."""
    of_each = (search.once((expectations, history.rung), partial(_of_rung, history, search)) for history in among)
    return tuple(one for of_rung in of_each for one in of_rung)


def _of_rung(history: RungHistory, search: SearchState) -> tuple[Expectation, ...]:
    if history.is_stuck or exclusion(history, search) is not None:
        return ()
    left = (strategy for strategy in history.strategies if strategy not in history.tried)
    return tuple(expectation(history, strategy, search) for strategy in left if not is_ruled_out(strategy, search))


def expectation(history: RungHistory, strategy: Strategy, search: SearchState) -> Expectation:
    speed = search.log_speed(strategy)
    cap = _cap(strategy, search)
    return Expectation(
        history,
        strategy,
        expected=min(math.exp(speed.mean), cap),
        bound=min(math.exp(min(speed.mean + BOUND_STD * speed.std, _LARGEST_EXPONENT)), cap),
        low=math.exp(speed.mean - BOUND_STD * speed.std),
        chance=search.chance(strategy),
        spread=speed.std,
        peak_bytes=search.memory(strategy).mean,
    )


def _cap(strategy: Strategy, search: SearchState) -> float:
    """The speed of the measured strategies that do the same and leave something of it out: no offload, nothing computed
    twice."""
    measured = ((known, outcome) for history in search.histories for known, outcome in history.speeds.items())
    return min(
        (outcome.tokens_per_s for known, outcome in measured if _does_no_more(known, strategy)), default=math.inf
    )


def _does_no_more(known: Strategy, strategy: Strategy) -> bool:
    return known.micro_batch == strategy.micro_batch and all(
        knob.does_no_more(getattr(known.rung, knob.name), getattr(strategy.rung, knob.name)) for knob in KNOBS
    )
