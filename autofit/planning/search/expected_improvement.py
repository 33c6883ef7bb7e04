"""What a strategy that was not probed may still bring: expected merit, a bound on it, and the chance that it fits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

from autofit.domain.strategy import Strategy

from .exclusion import exclusion, is_ruled_out
from .merit import BOUND_STD, cap, log_merit
from .rung_history import RungHistory
from .search_state import SearchState

LEAST_CHANCE = 0.02
"""A strategy with a smaller chance to fit is probed only where nothing else fits."""

_LEAST_SPREAD = 1e-6  # beside which one of 0 makes no difference

_LARGEST_EXPONENT = 700.0  # of a floating-point number

_STANDARD = NormalDist()


@dataclass(frozen=True)
class Expectation:
    """What a strategy may bring: `expected`, `bound` and `low` are merits, tokens/s where speed is looked for; before
    anything is measured they are only relative."""

    history: RungHistory
    strategy: Strategy
    expected: float
    bound: float
    low: float  # as far below
    chance: float
    spread: float  # standard deviation of the logarithm
    peak_bytes: float  # expected

    def expected_improvement(self, best: float) -> float:
        """Expected improvement over the merit `best` (Jones et al., Efficient Global Optimization, 1998, eq. 15).

        Of a log-normal merit: E[max(0, merit - best)], times the chance that it fits.
        """
        if best <= 0.0:
            return self.chance * self.expected
        mean, std = math.log(self.expected), max(self.spread, _LEAST_SPREAD)
        at = (mean - math.log(best)) / std
        return self.chance * (math.exp(mean + std**2 / 2) * _STANDARD.cdf(at + std) - best * _STANDARD.cdf(at))

    def expected_saving_s(self, rest_s: float, tokens: float, noise: float) -> float:
        """Where the merit is speed, the seconds of `rest_s` that a training of `tokens` is expected to save by a probe
        that measures with a relative error of `noise`: E[max(0, rest_s - tokens / speed)] of a log-normal speed, times
        the chance that it fits.

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
    merit = log_merit(strategy, search)
    most = cap(strategy, search)
    return Expectation(
        history,
        strategy,
        expected=min(math.exp(merit.mean), most),
        bound=min(math.exp(min(merit.mean + BOUND_STD * merit.std, _LARGEST_EXPONENT)), most),
        low=math.exp(merit.mean - BOUND_STD * merit.std),
        chance=search.chance(strategy),
        spread=merit.std,
        peak_bytes=search.memory(strategy).mean,
    )
