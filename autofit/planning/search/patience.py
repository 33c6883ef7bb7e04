"""How long the ranks of a probe may stand still within a step before it counts as hung."""

from __future__ import annotations

import math

from autofit.domain.strategy import Strategy

from .payoff import next_cost
from .search_state import SearchState

LEAST_S = 75.0
"""A first step may take so long once: a kernel is compiled, memory is pinned, a disk does not answer."""

UNMEASURED = 2.0
"""Times as long where nothing has run yet: kernels are compiled and tuned that the next probe finds."""

STEPS = 4.0
"""Of a probe, and of a strategy slower than five of six are expected to be, which is seven times where no rates are
known. Ranks give a sign with each pass, and a step has two of each of its micro-batches."""


def step_silence_s(strategy: Strategy, search: SearchState) -> float | None:
    """The seconds; None where the first step compiles the optimizer's update, which no sign comes from, and of a
    script, which may do what it likes between its passes."""
    if strategy.rung.optimizer.is_compiled or search.setting.is_script:
        return None
    speed = search.log_speed(strategy)  # from whose spread a step may take long where no rates are known
    slow = math.exp(speed.mean - speed.std)
    least_s = LEAST_S * (1.0 if search.has_measured else UNMEASURED)
    return max(least_s, STEPS * next_cost(search).step_s(strategy, slow))
