"""The choice, with the proof that the search could stop."""

from __future__ import annotations

from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.trial import Choice, Unprobed
from autofit.domain.units import format_bytes

from .exclusion import exclusion
from .expected_improvement import LEAST_CHANCE, Expectation, expectations
from .rung_history import RungHistory
from .search_state import SearchState, best_of, best_tokens_per_s, leader


def choice(search: SearchState, best: RungHistory, gain: float) -> Choice:
    """The fastest measured strategy and why nothing else can be faster by more than `gain`."""
    strategy, measured = best_of(best)
    is_lora = strategy.rung.method is Method.LORA
    full = leader(history for history in search.histories if is_lora and history.rung.method is Method.FULL)
    full_strategy, full_measured = best_of(full) if full is not None else (None, None)
    return Choice(
        strategy=strategy,
        measured=measured,
        why=_why(search, best, gain) + _without_full(search, is_lora and full is None),
        unprobed=_unprobed(search, best, gain),
        full=full_strategy,
        full_measured=full_measured,
    )


def _why(search: SearchState, best: RungHistory, gain: float) -> str:
    rivals = [expectation for expectation in _rivals(search) if expectation.history is not best]
    if not rivals:
        return "every rung that may fit was probed"
    nearest = max(rivals, key=lambda expectation: expectation.bound)
    return f"{_verdict(nearest.bound, best_tokens_per_s(best), gain)}: the nearest bound is {_bound_text(nearest)}"


def _rivals(search: SearchState) -> list[Expectation]:
    """What was not probed and may fit."""
    return [expectation for expectation in expectations(search, search.histories) if expectation.chance > LEAST_CHANCE]


def _verdict(bound: float, best: float, gain: float) -> str:
    if bound <= best:
        return "nothing left can beat it"
    return f"nothing left can beat it by more than {gain:.0%}" if bound <= best * (1 + gain) else "the probes are spent"


def _bound_text(expectation: Expectation) -> str:
    return f"{expectation.bound:,.0f} tokens/s ({expectation.strategy})"


def _without_full(search: SearchState, is_missing: bool) -> str:
    """The clause for a request that left room for all parameters where no such rung could be measured."""
    if not is_missing or search.setting.request.pins.of(METHOD) is not None:
        return ""
    full = [history for history in search.histories if history.rung.method is Method.FULL]
    if any(history.is_stuck for history in full):
        return "; no rung with all parameters could be measured"
    return "; no rung with all parameters fits"


def _unprobed(search: SearchState, best: RungHistory, gain: float) -> tuple[Unprobed, ...]:
    rest = (history for history in search.histories if not history.trials)
    left_out = tuple(Unprobed(out.rung, out.reason) for out in search.ladder.left_out)
    return tuple(Unprobed(history.rung, _reason(history, search, best, gain)) for history in rest) + left_out


def _reason(history: RungHistory, search: SearchState, best: RungHistory, gain: float) -> str:
    excluded = exclusion(history, search)
    if excluded is not None:
        return excluded
    left = expectations(search, (history,))
    likely = [expectation for expectation in left if expectation.chance > LEAST_CHANCE]
    if not likely:
        needed = format_bytes(min(expectation.peak_bytes for expectation in left))
        return f"needs about {needed} of {format_bytes(search.device_bytes)} by what was measured"
    bound, rival = max(expectation.bound for expectation in likely), best_tokens_per_s(best)
    if bound <= rival:
        return f"cannot beat {rival:,.0f} (bound {bound:,.0f})"
    if bound <= rival * (1 + gain):
        return f"cannot beat {rival:,.0f} by more than {gain:.0%} (bound {bound:,.0f})"
    return f"the probes are spent (bound {bound:,.0f})"
