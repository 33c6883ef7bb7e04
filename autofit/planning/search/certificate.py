"""The choice, with the reason why the search could stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from autofit.domain.goal import AN_HOUR, Certainty, TimeToEnd
from autofit.domain.objective import Objective
from autofit.domain.strategy import LESS, Change
from autofit.domain.trial import Beside, Choice, Expected, Unprobed
from autofit.domain.units import brief_seconds, format_bytes
from autofit.planning.memory.interval import HEADROOM

from .exclusion import exclusion
from .expected_improvement import LEAST_CHANCE, Expectation, expectations
from .finalists import second_looks
from .merit import BOUND_STD, Best, leader
from .payoff import Payoff, payoffs
from .rating import LIKELY, baseline
from .rung_history import RungHistory
from .search_state import SearchState
from .sure_choice import SureChoice
from .wording import words_of


def choice(search: SearchState, best: Best) -> Choice:
    """The best measured strategy and why no other was tried."""
    found = Choice(
        best.strategy,
        best.measured,
        why=f"{words_of(search).looked_for}{_why(search, best)}",
        unprobed=_unprobed(search, best),
        reach_s=_reach_s(search, best),
        baseline=baseline(search),
    )
    return _with_plain(found, search)


def unprobed_choice(search: SearchState, sure: SureChoice) -> Choice:
    """A strategy that is sure enough to fit, of a training for which a probe would take longer than it is expected
    to save."""
    why = f"not probed: {_need_text(sure.of, search)}, and {_unprobed_text(sure.nearest, search)}"
    rest = [history for history in search.histories if history.rung != sure.of.strategy.rung]
    unprobed = tuple(
        Unprobed(history.rung, exclusion(history, search) or "a probe would cost more than it saves")
        for history in rest
    )
    left_out = tuple(Unprobed(out.rung, out.reason) for out in search.ladder.left_out)
    found = Choice(sure.of.strategy, None, why, (*unprobed, *left_out), baseline=baseline(search))
    return _with_plain(found, search)


def _need_text(one: Expectation, search: SearchState) -> str:
    high_bytes, has = search.ladder.estimate(one.strategy).memory.high_bytes, format_bytes(search.device_bytes)
    if high_bytes <= (1 - HEADROOM) * search.device_bytes:
        return f"it needs {format_bytes(high_bytes)} at most of {has}"
    return f"it needs about {format_bytes(one.peak_bytes)} of {has}, and fits with a chance of {one.chance:.1%}"


def _unprobed_text(nearest: Payoff, search: SearchState) -> str:
    """In seconds where they are known, else in shares of the training."""
    if search.knows_seconds(nearest.of.strategy):
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
    best = leader(among, search)
    if best is not None and not _is_overtaken(best, likely, search):
        return Beside(best.strategy, best.measured)
    one = max(likely, key=lambda one: one.expected, default=None)
    return None if one is None else Beside(one.strategy, expected=_expected_speed(one, search))


def _expected_speed(one: Expectation, search: SearchState) -> Expected:
    if search.objective is Objective.SPEED:
        return Expected(one.expected, one.low, one.bound)
    speed = search.log_speed(one.strategy)
    low, high = (math.exp(speed.mean + times * speed.std) for times in (-BOUND_STD, BOUND_STD))
    return Expected(math.exp(speed.mean), low, high)


def _is_overtaken(best: Best, left: Sequence[Expectation], search: SearchState) -> bool:
    """Whether a probe that ended early was faster: it was too slow for LoRA's rungs, not for those beside them."""
    return any(search.is_outpaced(one.strategy) and one.expected > best.merit for one in left)


def _why(search: SearchState, best: Best) -> str:
    rivals = [rival for rival in _rivals(search) if rival.history.rung != best.history.rung]
    if not rivals:
        return "every rung that may fit was probed"
    if isinstance(search.goal, Certainty):
        return _certain(rivals, best.merit, search.goal.gain, search)
    return _worthwhile(rivals, best.merit, search.goal, search)


def _reach_s(search: SearchState, best: Best) -> float | None:
    """The length of the longest training for which none of the probes that are left pays; None: however long, and where
    it is not time that pays."""
    if search.objective is not Objective.SPEED:
        return None
    left = (*payoffs(_rivals(search), best.merit, AN_HOUR, search), *second_looks(search, best, AN_HOUR))
    reach_s = min((one.break_even_s for one in left), default=math.inf)
    return reach_s if math.isfinite(reach_s) else None


def _rivals(search: SearchState) -> list[Expectation]:
    """What was not probed and may fit."""
    return [expectation for expectation in expectations(search, search.histories) if expectation.chance > LEAST_CHANCE]


def _certain(rivals: Sequence[Expectation], best: float, gain: float, search: SearchState) -> str:
    nearest = max(rivals, key=lambda rival: rival.bound)
    return f"{words_of(search).verdict(nearest.bound, best, gain)}: {_bound_text(nearest, best, search)}"


def _bound_text(one: Expectation, best: float, search: SearchState) -> str:
    return f"the nearest bound is {words_of(search).nearest(one.bound, best)} ({one.strategy})"


def _worthwhile(rivals: Sequence[Expectation], best: float, goal: TimeToEnd, search: SearchState) -> str:
    left = payoffs(rivals, best, goal, search)
    if not left:
        return f"nothing left can beat it: {_bound_text(max(rivals, key=lambda rival: rival.bound), best, search)}"
    first, fastest = max(left, key=lambda one: one.gain_s), max(one.of.bound for one in left)
    length = "an hour's training" if goal.step_count is None else f"the {brief_seconds(first.rest_s)} of the training"
    possible = f"at most {fastest / best - 1:.0%} faster remains possible"
    return f"another probe {first.text('would cost')} of {length}; {possible}"


def _unprobed(search: SearchState, best: Best) -> tuple[Unprobed, ...]:
    rest = (history for history in search.histories if not history.trials)
    left_out = tuple(Unprobed(out.rung, out.reason) for out in search.ladder.left_out)
    return tuple(Unprobed(history.rung, _reason(history, search, best.merit)) for history in rest) + left_out


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
    gain = search.goal.gain if isinstance(search.goal, Certainty) else 0.0
    if bound <= rival or isinstance(search.goal, Certainty):
        return words_of(search).no_better(bound, rival, gain)
    nearest = max(payoffs(likely, rival, search.goal, search), key=lambda one: one.gain_s)
    return f"a probe {nearest.text()} (bound {bound:,.0f})"
