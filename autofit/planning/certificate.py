"""The choice, with the proof that the search could stop."""

from __future__ import annotations

from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.trial import Choice, Unprobed
from autofit.domain.units import format_bytes

from .exclusion import exclusion
from .prospect import LEAST_CHANCE, Prospect, prospects
from .record import Record
from .search import Search, best_of, best_tokens_per_s, leader


def choice(search: Search, best: Record, gain: float) -> Choice:
    """The fastest measured strategy and why nothing else can be faster by more than `gain`."""
    strategy, measured = best_of(best)
    is_lora = strategy.rung.method is Method.LORA
    full = leader(record for record in search.records if is_lora and record.rung.method is Method.FULL)
    full_strategy, full_measured = best_of(full) if full is not None else (None, None)
    return Choice(
        strategy=strategy,
        measured=measured,
        why=_why(search, best, gain) + _without_full(search, is_lora and full is None),
        unprobed=_unprobed(search, best, gain),
        full=full_strategy,
        full_measured=full_measured,
    )


def _why(search: Search, best: Record, gain: float) -> str:
    rivals = [prospect for prospect in _rivals(search) if prospect.record is not best]
    if not rivals:
        return "every rung that may fit was probed"
    nearest = max(rivals, key=lambda prospect: prospect.bound)
    return f"{_verdict(nearest.bound, best_tokens_per_s(best), gain)}: the nearest bound is {_bound_text(nearest)}"


def _rivals(search: Search) -> list[Prospect]:
    """What was not probed and may fit."""
    return [prospect for prospect in prospects(search, search.records) if prospect.chance > LEAST_CHANCE]


def _verdict(bound: float, best: float, gain: float) -> str:
    if bound <= best:
        return "nothing left can beat it"
    return f"nothing left can beat it by more than {gain:.0%}" if bound <= best * (1 + gain) else "the probes are spent"


def _bound_text(prospect: Prospect) -> str:
    return f"{prospect.bound:,.0f} tokens/s ({prospect.strategy})"


def _without_full(search: Search, is_missing: bool) -> str:
    """Said when the request left room for all parameters and no such rung could be measured."""
    if not is_missing or search.setting.request.pins.of(METHOD) is not None:
        return ""
    full = [record for record in search.records if record.rung.method is Method.FULL]
    if any(record.is_stuck for record in full):
        return "; no rung with all parameters could be measured"
    return "; no rung with all parameters fits"


def _unprobed(search: Search, best: Record, gain: float) -> tuple[Unprobed, ...]:
    rest = (record for record in search.records if not record.trials)
    left_out = tuple(Unprobed(out.rung, out.reason) for out in search.ladder.left_out)
    return tuple(Unprobed(record.rung, _reason(record, search, best, gain)) for record in rest) + left_out


def _reason(record: Record, search: Search, best: Record, gain: float) -> str:
    excluded = exclusion(record, search)
    if excluded is not None:
        return excluded
    left = prospects(search, (record,))
    likely = [prospect for prospect in left if prospect.chance > LEAST_CHANCE]
    if not likely:
        needed = format_bytes(min(prospect.peak_bytes for prospect in left))
        return f"needs about {needed} of {format_bytes(search.device_bytes)} by what was measured"
    bound, rival = max(prospect.bound for prospect in likely), best_tokens_per_s(best)
    if bound <= rival:
        return f"cannot beat {rival:,.0f} (bound {bound:,.0f})"
    if bound <= rival * (1 + gain):
        return f"cannot beat {rival:,.0f} by more than {gain:.0%} (bound {bound:,.0f})"
    return f"the probes are spent (bound {bound:,.0f})"
