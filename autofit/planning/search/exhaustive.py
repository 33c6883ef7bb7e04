"""A search that probes everything that may fit, to show how near the usual search comes to the best there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autofit.domain.goal import Goal
from autofit.domain.ladder import Ladder
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choice, Choose, Trial
from autofit.planning.setting import Setting

from .certificate import choice
from .expected_improvement import expectations
from .merit import leader, merit
from .policy import decide
from .search_state import SearchState


def next_untried(ladder: Ladder, trials: Sequence[Trial], setting: Setting) -> Strategy | None:
    """The strategy that is likeliest to fit of what no trial rules out; None when nothing is left."""
    search = SearchState.of(ladder, trials, setting)
    left = expectations(search, search.histories)
    return max(left, key=lambda expectation: expectation.chance).strategy if left else None


def exhaustive_choice(ladder: Ladder, trials: Sequence[Trial], setting: Setting, goal: Goal) -> Choice:
    """The best of all, with the regret of the search alone: 1 - its pick's merit (tokens/s) ÷ the best one's.

    `trials` begin with those of the search, which chose something.
    """
    search = SearchState.of(ladder, trials, setting, goal)
    best = leader(search.histories, search)
    assert best is not None
    pick, probe_count = _searched(ladder, trials, setting, goal)
    seen = {strategy: one for history in search.histories for strategy, one in history.measurements.items()}
    picked = seen.get(pick.strategy)
    lost = None if picked is None else max(0.0, 1 - merit(pick.strategy, picked, search) / best.merit)
    regret = "unknown: it does not fit" if lost is None else f"{lost:.1%}"
    why = (
        f"all {search.probe_count} strategies that may fit were probed; the search alone chose {pick.strategy} after "
        f"{probe_count}, regret {regret}"
    )
    return replace(choice(search, best), why=why)


def _searched(ladder: Ladder, trials: Sequence[Trial], setting: Setting, goal: Goal) -> tuple[Choice, int]:
    """What the search alone chose, replayed, and after how many probes."""
    for count in range(len(trials) + 1):
        action = decide(ladder, trials[:count], setting, goal)
        if isinstance(action, Choose):
            return action.choice, sum(not trial.is_rehearsal for trial in trials[:count])
    raise ValueError("the search has not ended within these trials")
