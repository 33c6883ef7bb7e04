"""The micro-batch of one rung: two measured points, a jump to the largest that fits and pays, one confirmation."""

from __future__ import annotations

from dataclasses import dataclass

from .line import MemoryLine, foreseen_bytes, through_points
from .record import Record
from .timing import Timing

MARGIN = 0.025
"""Of the device's memory, kept free when a line through two points is trusted beyond them."""


@dataclass(frozen=True)
class Hints:
    """What other rungs teach: where to start, what cannot fit, and the bytes that each row adds, when that is known."""

    start: int
    cap: int | None = None
    row_bytes: float | None = None


def next_micro_batch(record: Record, hints: Hints, device_bytes: int, gain: float) -> int | None:
    """The micro-batch to probe next, None when none is worth it; `gain` is the least relative speed-up that is."""
    limit = _smallest(record.failed_micro_batch, hints.cap)
    if not record.points:
        return _first(record, hints.start, limit)
    larger = [rows for rows in record.candidates if rows > max(record.points) and (limit is None or rows < limit)]
    line = memory_line(record, hints.row_bytes)
    if line is None:
        return larger[0] if larger and foreseen_bytes(record, larger[0]) <= device_bytes else None
    fitting = [rows for rows in larger if line.bytes_at(rows) <= device_bytes * (1 - MARGIN)]
    return _jump(record, fitting, gain) if fitting else None


def memory_line(record: Record, row_bytes: float | None) -> MemoryLine | None:
    """Its own line, or the one through its only point with the slope of a rung that holds the same activations."""
    if len(record.points) > 1:
        return through_points(record.points)
    ((rows, measured),) = record.points.items()
    return None if row_bytes is None else MemoryLine(measured.peak_device_bytes - row_bytes * rows, row_bytes)


def _first(record: Record, start: int, limit: int | None) -> int | None:
    """Where asked, or the smallest once that was too large."""
    wanted = start if limit is None or start < limit else record.candidates[0]
    return wanted if limit is None or wanted < limit else None


def _jump(record: Record, fitting: list[int], gain: float) -> int | None:
    timing = Timing.of(record.points) if len(record.points) > 1 else None
    fastest = max(measured.tokens_per_s for measured in record.points.values())
    if timing is not None and timing.tokens_per_s(fitting[-1]) < (1 + gain) * fastest:
        return None
    if record.failed_micro_batch is not None:
        # The line promised too much once: halve what is left instead of trusting it again.
        return fitting[(len(fitting) - 1) // 2]
    if timing is None:
        return fitting[-1]
    enough = timing.tokens_per_s(fitting[-1]) / (1 + gain)
    return next(rows for rows in fitting if timing.tokens_per_s(rows) >= enough)


def _smallest(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)
