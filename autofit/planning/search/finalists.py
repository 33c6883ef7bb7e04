"""The measured strategies that the noise of their probes does not tell from the best: what another look is worth."""

from __future__ import annotations

import math
from dataclasses import replace

from autofit.domain.goal import TimeToEnd
from autofit.domain.strategy import Strategy
from autofit.planning.probe_steps import MEASURE_S

from .expected_improvement import expectation
from .merit import Best
from .noise import SPEED_NOISE, next_noise
from .payoff import Payoff, next_cost, tokens_left
from .rung_history import RungHistory
from .search_state import SearchState

MOST_LOOKS = 3
"""The probes that one strategy gets at most."""

LONGER = 4.0
"""How many times as long as the one before a look measures: its start costs the same, and the noise of steps goes with
the root of their number."""


def look_s(strategy: Strategy, search: SearchState) -> float:
    """How long the next look at a measured strategy measures."""
    return float(MEASURE_S * LONGER ** _looks(strategy, search))


def second_looks(search: SearchState, best: Best, goal: TimeToEnd) -> tuple[Payoff, ...]:
    """The payoffs of measuring each once more: a rival may turn out faster than the best, and the best slower than its
    nearest rival."""
    measured = {
        strategy: (history, outcome.tokens_per_s)
        for history in search.histories
        for strategy, outcome in history.measurements.items()
    }
    nearest = max((speed for strategy, (_, speed) in measured.items() if strategy != best.strategy), default=None)
    if nearest is None:
        return ()
    tokens, cost = tokens_left(goal, best.merit, search), next_cost(search)
    return tuple(
        Payoff(
            replace(
                expectation(history, strategy, search),
                expected=nearest if strategy == best.strategy else speed,
                spread=_told(history, strategy, search),
                chance=1.0,
            ),
            cost.seconds(strategy, speed, look_s(strategy, search)),
            tokens / best.merit,
            tokens,
            noise=0.0,  # which is in the spread
        )
        for strategy, (history, speed) in measured.items()
        if _looks(strategy, search) < MOST_LOOKS
    )


def _told(history: RungHistory, strategy: Strategy, search: SearchState) -> float:
    """By how much one more look is expected to move what is known of a speed: of a normal logarithm the variance ÷
    sqrt(variance + noise^2)."""
    measured, looks = history.measurements[strategy], _looks(strategy, search)
    known = max(SPEED_NOISE / math.sqrt(looks), measured.speed_error or 0.0)
    noise = max(SPEED_NOISE, next_noise(search.trials) * math.sqrt(MEASURE_S / look_s(strategy, search)))
    return known**2 / math.hypot(known, noise)


def _looks(strategy: Strategy, search: SearchState) -> int:
    return sum(trial.strategy == strategy for history in search.histories for trial in history.trials)
