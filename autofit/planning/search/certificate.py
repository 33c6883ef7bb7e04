"""The choice, with the reason why the search could stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from autofit.domain.goal import AN_HOUR, Certainty, TimeToEnd
from autofit.domain.strategy import LESS, Change
from autofit.domain.trial import Beside, Choice, Expected, Unprobed
from autofit.domain.units import brief_seconds, format_bytes

from .exclusion import exclusion
from .expected_improvement import LEAST_CHANCE, Expectation, expectations
from .payoff import Payoff, payoffs
from .rung_history import RungHistory
from .search_state import SearchState, best_of, best_tokens_per_s, leader
from .sure_choice import SureChoice

LIKELY = 0.5
"""The chance to fit above which a rung that was not probed is named beside the choice."""


def choice(search: SearchState, best: RungHistory) -> Choice:
    """The fastest measured strategy and why no other was tried."""
    strategy, measured = best_of(best)
    unprobed = _unprobed(search, best)
    found = Choice(strategy, measured, why=_why(search, best), unprobed=unprobed, reach_s=_reach_s(search, best))
    return _with_plain(found, search)


def unprobed_choice(search: SearchState, sure: SureChoice) -> Choice:
    """A strategy that is sure to fit, of a training for which a probe would take longer than it is expected to save."""
    peak, has = (
        format_bytes(search.ladder.estimate(sure.of.strategy).memory.high_bytes),
        format_bytes(search.device_bytes),
    )
    why = f"not probed: it needs {peak} at most of {has}, and {_unprobed_text(sure.nearest, search)}"
    rest = [history for history in search.histories if history.rung != sure.of.strategy.rung]
    unprobed = tuple(
        Unprobed(history.rung, exclusion(history, search) or "a probe would cost more than it saves")
        for history in rest
    )
    left_out = tuple(Unprobed(out.rung, out.reason) for out in search.ladder.left_out)
    return _with_plain(Choice(sure.of.strategy, None, why, (*unprobed, *left_out)), search)


def _unprobed_text(nearest: Payoff, search: SearchState) -> str:
    """In seconds where they are known, else in shares of the training."""
    if search.ladder.estimate(nearest.of.strategy).speed.is_absolute:
        return f"a probe {nearest.text('would cost')} of {brief_seconds(nearest.rest_s)}"
    cost, saving = nearest.cost_s / nearest.rest_s, nearest.saving_s / nearest.rest_s
    return f"the steps of a probe would take {cost:.0%} of the training and are expected to save {saving:.0%}"


def _with_plain(found: Choice, search: SearchState) -> Choice:
    """The choice with the fastest rung beside it that changes less of the training, measured or else expected: of those
    that change least, if any of them fits."""
    beside = [search.changing(change) for change in LESS[found.strategy.rung.change]]
    plain = next((one for one in (_fastest(histories, search) for histories in beside) if one is not None), None)
    pins = search.setting.request.pins
    if plain is not None or all(pins.settles(knob) for knob, _ in found.strategy.rung.changed):
        return replace(found, plain=plain)
    is_stuck = any(history.is_stuck for histories in beside for history in histories)
    what = "no rung with all parameters" if found.strategy.rung.change is Change.ADAPTERS else "nothing plain"
    return replace(found, why=f"{found.why}; {what} {'could be measured' if is_stuck else 'fits'}")


def _fastest(among: Sequence[RungHistory], search: SearchState) -> Beside | None:
    likely = [one for one in expectations(search, among) if one.chance > LIKELY]
    best = leader(among)
    if best is not None and not _is_overtaken(best, likely, search):
        return Beside(*best_of(best))
    one = max(likely, key=lambda one: one.expected, default=None)
    return None if one is None else Beside(one.strategy, expected=Expected(one.expected, one.low, one.bound))


def _is_overtaken(best: RungHistory, left: Sequence[Expectation], search: SearchState) -> bool:
    """Whether a probe that ended early was faster: it was too slow for LoRA's rungs, not for those beside them."""
    return any(search.is_outpaced(one.strategy) and one.expected > best_tokens_per_s(best) for one in left)


def _why(search: SearchState, best: RungHistory) -> str:
    rivals = [rival for rival in _rivals(search) if rival.history is not best]
    if not rivals:
        return "every rung that may fit was probed"
    if isinstance(search.goal, Certainty):
        return _certain(rivals, best_tokens_per_s(best), search.goal.gain)
    return _worthwhile(rivals, best_tokens_per_s(best), search.goal, search)


def _reach_s(search: SearchState, best: RungHistory) -> float | None:
    """The length of the longest training for which none of the probes that are left pays; None: however long."""
    left = payoffs(_rivals(search), best_tokens_per_s(best), AN_HOUR, search)
    reach_s = min((one.break_even_s for one in left), default=math.inf)
    return reach_s if math.isfinite(reach_s) else None


def _rivals(search: SearchState) -> list[Expectation]:
    """What was not probed and may fit."""
    return [expectation for expectation in expectations(search, search.histories) if expectation.chance > LEAST_CHANCE]


def _certain(rivals: Sequence[Expectation], best: float, gain: float) -> str:
    nearest = max(rivals, key=lambda rival: rival.bound)
    return f"{_verdict(nearest.bound, best, gain)}: {_bound_text(nearest)}"


def _verdict(bound: float, best: float, gain: float) -> str:
    if bound <= best:
        return "nothing left can beat it"
    return f"nothing left can beat it by more than {gain:.0%}" if bound <= best * (1 + gain) else "the probes are spent"


def _bound_text(expectation: Expectation) -> str:
    return f"the nearest bound is {expectation.bound:,.0f} tokens/s ({expectation.strategy})"


def _worthwhile(rivals: Sequence[Expectation], best: float, goal: TimeToEnd, search: SearchState) -> str:
    left = payoffs(rivals, best, goal, search)
    if not left:
        return f"nothing left can beat it: {_bound_text(max(rivals, key=lambda rival: rival.bound))}"
    first, fastest = max(left, key=lambda one: one.gain_s), max(one.of.bound for one in left)
    length = "an hour's training" if goal.step_count is None else f"the {brief_seconds(first.rest_s)} of the training"
    possible = f"at most {fastest / best - 1:.0%} faster remains possible"
    return f"another probe {first.text('would cost')} of {length}; {possible}"


def _unprobed(search: SearchState, best: RungHistory) -> tuple[Unprobed, ...]:
    rest, rival = (history for history in search.histories if not history.trials), best_tokens_per_s(best)
    left_out = tuple(Unprobed(out.rung, out.reason) for out in search.ladder.left_out)
    return tuple(Unprobed(history.rung, _reason(history, search, rival)) for history in rest) + left_out


def _reason(history: RungHistory, search: SearchState, rival: float) -> str:
    excluded = exclusion(history, search)
    if excluded is not None:
        return excluded
    left = expectations(search, (history,))
    likely = [expectation for expectation in left if expectation.chance > LEAST_CHANCE]
    if not likely:
        needed = format_bytes(min(expectation.peak_bytes for expectation in left))
        return f"needs about {needed} of {format_bytes(search.device_bytes)} by what was measured"
    bound = max(expectation.bound for expectation in likely)
    if bound <= rival:
        return f"cannot beat {rival:,.0f} (bound {bound:,.0f})"
    if isinstance(search.goal, Certainty):
        is_near = bound <= rival * (1 + search.goal.gain)
        why = f"cannot beat {rival:,.0f} by more than {search.goal.gain:.0%}" if is_near else "the probes are spent"
        return f"{why} (bound {bound:,.0f})"
    nearest = max(payoffs(likely, rival, search.goal, search), key=lambda one: one.gain_s)
    return f"a probe {nearest.text()} (bound {bound:,.0f})"
