"""What to do next, as a pure function of the ladder and the trials so far: it replays from a log."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from autofit.domain.knobs.method import Method
from autofit.domain.ladder import Ladder
from autofit.domain.trial import Action, Choose, Probe, Rehearse, Trial

from .certificate import choice
from .giving_up import give_up
from .prospect import LEAST_CHANCE, Prospect, prospects
from .record import Record
from .search import Search, best_tokens_per_s, leader
from .setting import Setting

WORTH_A_PROBE = 0.01
"""The least relative gain in speed for which another probe is run."""

WORTH_BESIDE = 0.05
"""The same for the full-parameter rung that is only named beside a LoRA choice."""

PROBE_BUDGET = 12
"""Probes after which a search that has found something that fits ends, proof or no proof."""

BUDGET_BESIDE = 15
"""The same for the full-parameter rung; the search for the first one that fits goes on beyond it."""


def decide(ladder: Ladder, trials: Sequence[Trial], setting: Setting) -> Action:
    """Rehearse or probe something, choose, or give up; `setting` is what the ladder was built from.

    Terminates: no strategy is asked for twice, but for one that crashed before it had begun, which gets one more try.
    """
    search = Search.of(ladder, trials, setting)
    next_action = _retry(search) or _next(search)
    if next_action is not None:
        return next_action
    best = leader(search.records)
    if best is None:
        return give_up(search)
    beside = _next_beside(search) if best.rung.method is Method.LORA else None
    return beside or Choose(choice(search, best, WORTH_A_PROBE))


def _retry(search: Search) -> Probe | None:
    retries = (record.retry for record in search.records if record.retry is not None)
    strategy = next(retries, None)
    return None if strategy is None else Probe(strategy, "once more: it crashed before it had begun")


def _next(search: Search) -> Probe | Rehearse | None:
    """Among the strategies whose bound is worth it; among all while nothing fits."""
    best = leader(search.records)
    left = prospects(search, search.records)
    if best is None:
        return _rehearsal(left, search) or _best_probe(left, None, search)
    if search.probe_count >= PROBE_BUDGET:
        return None
    return _best_probe(_worth_it(left, best, WORTH_A_PROBE), best, search)


def _next_beside(search: Search) -> Probe | None:
    """Among the full-parameter rungs that are expected to be worth it: no proof, since it is not the one that runs."""
    full = tuple(record for record in search.records if record.rung.method is Method.FULL)
    best = leader(full)
    left = prospects(search, full)
    if best is None:
        return _best_probe(left, None, search)
    if search.probe_count >= BUDGET_BESIDE:
        return None
    worth = best_tokens_per_s(best) * (1 + WORTH_BESIDE)
    return _best_probe([p for p in _worth_it(left, best, WORTH_BESIDE) if p.expected > worth], best, search)


def _worth_it(left: Iterable[Prospect], best: Record, gain: float) -> list[Prospect]:
    worth = best_tokens_per_s(best) * (1 + gain)
    return [prospect for prospect in left if prospect.bound > worth and prospect.chance > LEAST_CHANCE]


def _best_probe(left: Sequence[Prospect], best: Record | None, search: Search) -> Probe | None:
    if not left:
        return None
    rival = 0.0 if best is None else best_tokens_per_s(best)
    chosen = max(left, key=lambda prospect: prospect.gain(rival))
    return Probe(chosen.strategy, _reason(chosen, best, search))


def _rehearsal(left: Sequence[Prospect], search: Search) -> Rehearse | None:
    """Before anything is measured: one rung of each kind of activations, which is what a rehearsal tells most of, then
    the next best ones."""
    if search.setting.rehearsal_count < 2 or search.has_measured:
        return None
    rehearsed = {trial.strategy for record in search.records for trial in record.rehearsals}
    fresh = [prospect for prospect in left if prospect.strategy not in rehearsed]
    ordered = sorted(fresh, key=lambda prospect: prospect.gain(0.0), reverse=True)
    by_rung = _firsts(ordered, lambda prospect: prospect.record.rung)
    by_kind = _firsts(
        by_rung, lambda prospect: (prospect.record.rung.method, prospect.record.rung.gradient_checkpointing)
    )
    others = [prospect for prospect in by_rung if prospect not in by_kind]
    chosen = [prospect.strategy for prospect in (*by_kind, *others)[: search.setting.rehearsal_count]]
    return Rehearse(tuple(chosen), "one rank each, side by side") if len(chosen) > 1 else None


def _firsts(ordered: Iterable[Prospect], key: Callable[[Prospect], Hashable]) -> list[Prospect]:
    """The first of each kind, in order."""
    firsts: dict[Hashable, Prospect] = {}
    for prospect in ordered:
        firsts.setdefault(key(prospect), prospect)
    return list(firsts.values())


def _reason(prospect: Prospect, best: Record | None, search: Search) -> str:
    if best is not None:
        return f"could reach {prospect.bound:,.0f} tokens/s"
    if search.trials:
        return "best predicted speed of those that may still fit"
    return "best predicted speed"
