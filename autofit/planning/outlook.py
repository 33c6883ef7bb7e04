"""What a rung may still bring: its expected speed, the bound that it cannot pass, and how likely it is to fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .ceiling import ceiling, floor_bytes
from .cost import knobs, relative
from .kinship import is_alike
from .reach import top_speed
from .record import Record
from .search import Search, best_tokens_per_s

LEAST_LIKELY = 0.05


@dataclass(frozen=True)
class Outlook:
    """In tokens/s; before anything is measured `expected` is only relative and nothing is bounded."""

    expected: float
    bound: float


def outlook(record: Record, search: Search) -> Outlook:
    limit = ceiling(record, search) or record.candidates[0]
    if record.points:
        reach = max(best_tokens_per_s(record), top_speed(record, limit, search.setting, search.measured))
        return Outlook(reach, reach)
    if not search.measured:
        return Outlook(1 / record.step.estimates[0].cost.expected, math.inf)
    bound = min(_bound(record, limit, known, search) for known in search.measured)
    return Outlook(_expected(record, limit, search), bound)


def likelihood(record: Record, search: Search) -> float:
    """That the smallest micro-batch fits: a rank for the order of probes, no probability to rely on.

    Before a device was too small for anything the ladder is taken at its word: 1.
    """
    if record.points or not any(other.is_too_large for other in search.failed):
        return 1.0
    memory = record.step.estimates[0].memory
    failed = [other for other in search.failed if other.is_too_large and is_alike(record, other)]
    floors = [search.device_bytes + memory.low_bytes - other.step.estimates[0].memory.low_bytes for other in failed]
    low_bytes = max([floor_bytes(record, record.candidates[0], search), *floors])
    room = (search.device_bytes - low_bytes) / max(1, memory.high_bytes - low_bytes)
    return min(1.0, max(LEAST_LIKELY, room))


def _expected(record: Record, limit: int, search: Search) -> float:
    """From the measured rung that differs in the fewest knobs."""
    nearest = min(search.measured, key=lambda known: _distance(record, known))
    speed = top_speed(nearest, limit, search.setting, search.measured)
    return speed / relative(record.rung, nearest.rung, search.learned).expected


def _bound(record: Record, limit: int, known: Record, search: Search) -> float:
    """At most `limit` rows: the other's speed with as many, by the lower end of what the differing knobs cost."""
    speed = top_speed(known, limit, search.setting, search.measured)
    return speed / relative(record.rung, known.rung, search.learned).low


def _distance(one: Record, other: Record) -> int:
    return sum(a != b for a, b in zip(knobs(one.rung), knobs(other.rung), strict=True))
