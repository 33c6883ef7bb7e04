"""The largest micro-batch that a rung may hold, and the memory that it certainly takes, from what others measured."""

from __future__ import annotations

from autofit.domain.strategy import Method

from .growth import memory_line
from .kinship import implied_cap, is_alike, proven_start, saved_bytes
from .line import foreseen_bytes, through_points
from .record import Record
from .search import Search

TRANSFER = {True: 0.8, False: 0.65}
"""Of what a rung was measured to hold beside its states and buffers, the share that is taken for granted in another
rung which keeps the same activations (True) or more of them (False)."""

SAVING_TRUST = 1.15
"""How much more than predicted one rung may save beside another: fragmentation, and the estimate's own error."""

START_ROOM = 0.1
"""Of the device's memory, kept free where a rung begins with a micro-batch that only another rung has held."""


def ceiling(record: Record, search: Search) -> int | None:
    """None when not even the smallest micro-batch may fit."""
    limits = [rows for rows in (record.failed_micro_batch, implied_cap(record, search)) if rows is not None]
    may_fit = [
        rows
        for rows in record.candidates
        if all(rows < limit for limit in limits) and floor_bytes(record, rows, search) <= search.device_bytes
    ]
    return max([*may_fit, *record.points], default=None)


def start(record: Record, search: Search) -> int:
    """Where an untried rung begins: at the largest micro-batch that is proven for it, or that should fit with room."""
    alike = [other for other in search.measured if is_alike(record, other)]
    room_bytes = search.device_bytes * (1 - START_ROOM)
    likely = (rows for other in alike for rows in other.points if _foreseen_bytes(record, other, rows) <= room_bytes)
    return max([proven_start(record, search), *likely])


def floor_bytes(record: Record, rows: int, search: Search) -> float:
    """What `rows` rows take at least, by the rung's own points or by what others hold."""
    if record.points:
        line = memory_line(record, row_bytes(record, search))
        return foreseen_bytes(record, rows) if line is None else line.bytes_at(rows)
    known = [other for other in search.measured if _keeps_no_less(record, other)]
    shares = [TRANSFER[is_alike(record, other)] * _beside_bytes(other, rows) for other in known]
    by_shares_bytes = record.step.estimates[0].memory.low_bytes + max(shares, default=0.0)
    return max([by_shares_bytes, *(_by_line_bytes(record, other, rows) for other in known)])


def _by_line_bytes(record: Record, known: Record, rows: int) -> float:
    """The line of a rung with the same activations, less what is saved beside it, generously."""
    if not is_alike(record, known) or len(known.points) < 2:
        return 0.0
    return through_points(known.points).bytes_at(rows) - SAVING_TRUST * saved_bytes(record, known)


def row_bytes(record: Record, search: Search) -> float | None:
    """What each row adds in a rung that keeps the same activations; None while none has two measured points."""
    alike = [other for other in search.measured if is_alike(record, other) and len(other.points) > 1]
    return min((through_points(other.points).row_bytes for other in alike), default=None)


def _foreseen_bytes(record: Record, known: Record, rows: int) -> float:
    return record.fixed_bytes + _beside_bytes(known, rows)


def _keeps_no_less(record: Record, other: Record) -> bool:
    """Whether `record` keeps at least the activations of `other`: adapters and checkpointing only ever save some."""
    one, two = record.rung, other.rung
    return (
        (one.attention, one.dtype) == (two.attention, two.dtype)
        and (one.method is Method.FULL or two.method is Method.LORA)
        and one.gradient_checkpointing <= two.gradient_checkpointing
    )


def _beside_bytes(known: Record, rows: int) -> float:
    """What `rows` rows hold beside states and buffers, from what was measured, rather too little than too much.

    Below the smallest point in proportion, beyond a single one by the closed form, else by the line.
    """
    fixed_bytes = known.fixed_bytes
    smallest = min(known.points)
    at_smallest_bytes = known.points[smallest].peak_device_bytes - fixed_bytes
    if rows <= smallest:
        return max(0.0, at_smallest_bytes * rows / smallest)
    if len(known.points) > 1:
        return max(0.0, through_points(known.points).bytes_at(rows) - fixed_bytes)
    return max(0.0, at_smallest_bytes + known.activations_bytes(rows) - known.activations_bytes(smallest))
