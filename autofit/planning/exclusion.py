"""Why an untried rung needs no probe: what other rungs' trials imply of it."""

from __future__ import annotations

from collections import Counter

from autofit.domain.strategy import Offload
from autofit.domain.units import format_bytes

from .axes import OFFLOAD_ORDER
from .ceiling import floor_bytes
from .kinship import needs_no_less
from .record import Record
from .search import Search

SAME_COMPLAINTS = 3
"""Rungs of one method that fail in the same words before the method is given up: the fault is not the rung's."""


def exclusion(record: Record, search: Search) -> str | None:
    """The reason not to probe it, speed aside; None when there is none."""
    return (
        _implied_by_device(record, search)
        or _implied_by_host(record, search)
        or _implied_by_complaints(record, search)
        or _implied_by_measurement(record, search)
    )


def _implied_by_device(record: Record, search: Search) -> str | None:
    for other in search.failed:
        if other.is_too_large and needs_no_less(record, other):
            return f"needs no less than {other.step.strategies[0]}, which ran out of memory"
    return None


def _implied_by_host(record: Record, search: Search) -> str | None:
    """Only offload tells rungs apart on the host; without it a failure says nothing of the other rungs."""
    host_bytes = record.step.estimates[0].memory.host_bytes
    for other in (record for record in search.records if record.host_failed):
        is_more = OFFLOAD_ORDER.index(record.rung.offload) >= OFFLOAD_ORDER.index(other.rung.offload)
        is_offload = other.rung.offload is not Offload.NONE
        if is_offload and is_more and host_bytes >= other.step.estimates[0].memory.host_bytes:
            return f"needs no less host memory than {other.step.strategies[0]}, for which it did not suffice"
    return None


def _implied_by_complaints(record: Record, search: Search) -> str | None:
    peers = [other for other in search.records if other.rung.method is record.rung.method]
    if any(other.points or other.failed_micro_batch for other in peers):
        return None
    counts = Counter(other.complaint for other in peers if other.complaint is not None)
    words, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return f"{count} rungs failed in the same way: {words}" if count >= SAME_COMPLAINTS else None


def _implied_by_measurement(record: Record, search: Search) -> str | None:
    """States are known to a per cent, so what others were measured to hold beside theirs bounds it from below."""
    short_bytes = floor_bytes(record, record.candidates[0], search) - search.device_bytes
    if short_bytes <= 0:
        return None
    return f"too large by {format_bytes(short_bytes)} (by what the measured rungs hold)"
