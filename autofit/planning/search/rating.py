"""What a search says its strategies take, and what ratios are of it, at its end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from autofit.domain.efficiency import Cost, Rated
from autofit.domain.ladder import Ladder
from autofit.domain.strategy import Strategy
from autofit.planning.plan.baseline import baseline_of, check_baseline, is_named, measured_cost
from autofit.planning.setting import Setting
from autofit.planning.space.ladder_builder import make_step

from .exclusion import is_ruled_out
from .rung_history import RungHistory
from .search_state import SearchState

LIKELY = 0.5
"""The chance to fit above which what was not probed counts as what fits."""


def check_ladder(ladder: Ladder, setting: Setting) -> None:
    """UsageError where the baseline that was asked for is nowhere on the ladder, nor left out of it."""
    named = setting.request.baseline
    if named is not None:
        steps = _widened(ladder, setting).steps
        check_baseline(named, [strategy for step in steps for strategy in step.strategies])


def baseline(search: SearchState) -> Rated | None:
    """What ratios are of, as measured, or as it is believed to be where nothing of it was; None on an empty ladder."""
    named = search.setting.request.baseline
    on_ladder = (strategy for history in search.histories for strategy in history.strategies)
    if named is not None and not any(is_named(strategy, named) for strategy in on_ladder):
        wide = _widened(search.ladder, search.setting)
        search = SearchState.of(wide, search.trials, search.setting, search.goal)
    return baseline_of((one for history in search.histories for one in _rated(history, search)), named)


def _widened(ladder: Ladder, setting: Setting) -> Ladder:
    """The ladder with what it leaves out."""
    return replace(ladder, steps=(*ladder.steps, *(make_step(out.rung, setting) for out in ladder.left_out)))


def _rated(history: RungHistory, search: SearchState) -> Iterator[Rated]:
    for strategy in history.strategies:
        measured = history.measurements.get(strategy)
        if measured is not None:
            yield Rated(strategy, measured_cost(measured, search.setting.kind))
        else:
            is_failed = strategy in history.tried or history.is_stuck
            yield Rated(strategy, _believed(strategy, search), not is_failed and _may_fit(strategy, search))


def _may_fit(strategy: Strategy, search: SearchState) -> bool:
    return search.chance(strategy) > LIKELY and not is_ruled_out(strategy, search)


def _believed(strategy: Strategy, search: SearchState) -> Cost:
    """What is expected of it after all trials; no energy, which only a counter tells."""
    peak_bytes = max(1, round(search.memory(strategy).mean))
    return Cost(math.exp(-search.log_speed(strategy).mean), peak_bytes, is_measured=False)
