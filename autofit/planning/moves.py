"""The probes that could come next, each with what it may bring and why it is worth it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from autofit.domain.strategy import Strategy
from autofit.domain.units import format_bytes

from .ceiling import row_bytes, start
from .exclusion import exclusion
from .growth import Hints, next_micro_batch
from .kinship import implied_cap
from .outlook import likelihood, outlook
from .record import Record
from .search import Search


@dataclass(frozen=True)
class Move:
    """A strategy that could be probed; its rung's expected speed and the bound that it cannot pass are in tokens/s."""

    record: Record
    strategy: Strategy
    expected: float
    bound: float
    likelihood: float


def moves(search: Search, among: Iterable[Record], gain: float) -> tuple[Move, ...]:
    """At most one for each rung; a larger micro-batch must promise `gain`, relative to the rung's own best."""
    strategies = ((record, _next_strategy(record, search, gain)) for record in among)
    return tuple(_move(record, strategy, search) for record, strategy in strategies if strategy is not None)


def reason(move: Move, search: Search) -> str:
    """Why this probe, for the screen."""
    record, rows = move.record, move.strategy.micro_batch
    if record.retry is not None:
        return "once more: it crashed before it had begun"
    if not record.points:
        return _first_reason(move, search)
    if record.failed_micro_batch is not None and len(record.points) > 1:
        return f"between mb{max(record.points)}, which fits, and mb{record.failed_micro_batch}, which does not"
    if len(record.points) == 1:
        return "a second micro-batch shows how memory and speed grow"
    return f"the largest micro-batch that pays and should fit {format_bytes(search.device_bytes)}: mb{rows}"


def _first_reason(move: Move, search: Search) -> str:
    if search.measured:
        return f"could reach {move.bound:,.0f} tokens/s"
    if any(record.trials for record in search.records):
        return "best predicted speed of those that may still fit"
    return "best predicted speed"


def _next_strategy(record: Record, search: Search, gain: float) -> Strategy | None:
    if record.is_stuck and record.retry is None:
        return None
    if not record.points and exclusion(record, search) is not None:
        return None
    if record.retry is not None:
        return record.retry
    hints = Hints(start(record, search), implied_cap(record, search), row_bytes(record, search))
    rows = next_micro_batch(record, hints, search.device_bytes, gain)
    return None if rows is None else record.strategy(rows)


def _move(record: Record, strategy: Strategy, search: Search) -> Move:
    seen = outlook(record, search)
    return Move(record, strategy, seen.expected, seen.bound, likelihood(record, search))
