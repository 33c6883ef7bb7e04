"""What to do next, as a pure function of the ladder and the trials so far: it replays from a log."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from autofit.domain.ladder import Ladder
from autofit.domain.strategy import Method
from autofit.domain.trial import Action, Choose, Probe, Trial

from .certificate import choice
from .giving_up import give_up
from .moves import Move, moves, reason
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
    """Probe something, choose, or give up; `setting` is what the ladder was built from.

    Terminates: no strategy is asked for twice, but for one that crashed before it had begun, which gets one more try.
    """
    search = Search.of(ladder, trials, setting)
    probe = _next_probe(search)
    if probe is not None:
        return probe
    best = leader(search.records)
    if best is None:
        return give_up(search)
    beside = _next_beside(search) if best.rung.method is Method.LORA else None
    return beside or Choose(choice(search, best, WORTH_A_PROBE))


def _next_probe(search: Search) -> Probe | None:
    """Among the rungs whose bound is worth it."""
    best = leader(search.records)
    if best is not None and search.trial_count >= PROBE_BUDGET:
        return None
    worth = 0.0 if best is None else best_tokens_per_s(best) * (1 + WORTH_A_PROBE)
    open_moves = [move for move in moves(search, search.records, WORTH_A_PROBE) if move.bound > worth]
    return _best_probe(open_moves, best, search)


def _next_beside(search: Search) -> Probe | None:
    """Among the full-parameter rungs that are expected to be worth it: no proof, since it is not the one that runs."""
    full = tuple(record for record in search.records if record.rung.method is Method.FULL)
    best = leader(full)
    if best is not None and search.trial_count >= BUDGET_BESIDE:
        return None
    worth = 0.0 if best is None else best_tokens_per_s(best) * (1 + WORTH_BESIDE)
    open_moves = [move for move in moves(search, full, WORTH_BESIDE) if sqrt(move.expected * move.bound) > worth]
    return _best_probe(open_moves, best, search)


def _best_probe(open_moves: list[Move], best: Record | None, search: Search) -> Probe | None:
    """The micro-batch of the fastest rung so far first, since all bounds hang on it; then the best prospect."""
    if not open_moves:
        return None
    chosen = max(open_moves, key=lambda move: (move.record is best, move.expected * move.likelihood))
    return Probe(chosen.strategy, reason(chosen, search))
