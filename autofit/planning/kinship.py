"""Which rung's trials speak for which other rung."""

from __future__ import annotations

from autofit.domain.strategy import Method

from .axes import OFFLOAD_ORDER
from .record import Record
from .search import Search

SAVES_TOO_LITTLE = 0.02
"""Of the device's memory: a rung that saves less than this beside another is not tried where that one failed."""


def needs_no_less(heavy: Record, light: Record) -> bool:
    """Whether `heavy` takes at least `light`'s device memory at any micro-batch: by every knob and by the estimate.

    The estimate decides where a knob adds buffers: ZeRO-3 gathers what it has divided, and on one device or with few
    trained parameters that is more than it saves.
    """
    one, other = heavy.rung, light.rung
    return (
        heavy is not light
        and (one.attention, one.dtype) == (other.attention, other.dtype)
        and (one.method is Method.FULL or other.method is Method.LORA)
        and one.zero_stage <= other.zero_stage
        and OFFLOAD_ORDER.index(one.offload) <= OFFLOAD_ORDER.index(other.offload)
        and one.gradient_checkpointing <= other.gradient_checkpointing
        and heavy.step.estimates[0].memory.peak_bytes >= light.step.estimates[0].memory.peak_bytes
        and (one.zero_stage == other.zero_stage or other.zero_stage < 3 or _is_certain(heavy, light))
    )


def _is_certain(heavy: Record, light: Record) -> bool:
    """Whether the states of one alone outweigh states and buffers of the other: below ZeRO-3 there are no gathered
    parameters, and a small model under ZeRO-3 was measured to take more than under ZeRO-2."""
    if heavy.rung.method is not light.rung.method:
        return True  # all parameters' states against an adapter's
    return heavy.step.estimates[0].memory.low_bytes >= light.fixed_bytes + light.step.estimates[0].memory.runtime_bytes


def is_alike(one: Record, other: Record) -> bool:
    """Whether they hold the same activations: what of a measurement carries over from one to the other."""
    a, b = one.rung, other.rung
    same = (a.method, a.gradient_checkpointing, a.attention, a.dtype)
    return same == (b.method, b.gradient_checkpointing, b.attention, b.dtype)


def saved_bytes(record: Record, other: Record) -> int:
    """By how much less `record` is predicted to take at most, beside the same activations; 0 when it takes more."""
    one, two = record.step.estimates[0].memory, other.step.estimates[0].memory
    return max(0, two.low_bytes - one.low_bytes, two.peak_bytes - one.peak_bytes)


def implied_cap(record: Record, search: Search) -> int | None:
    """The smallest micro-batch that could not be held by a rung which takes no more than this one, or hardly more."""
    failed = [other.failed_micro_batch for other in search.failed if needs_no_less(record, other)]
    least_bytes = SAVES_TOO_LITTLE * search.device_bytes
    for other in search.failed:
        # Not where nothing of the other fits: a guess may cut a rung short, but not off.
        if other.points and is_alike(record, other) and saved_bytes(record, other) < least_bytes:
            failed.append(other.failed_micro_batch)
    return min((rows for rows in failed if rows is not None), default=None)


def proven_start(record: Record, search: Search) -> int:
    """The largest micro-batch that a rung which needs no less memory was measured with; else the smallest there is."""
    known = (rows for other in search.measured if needs_no_less(other, record) for rows in other.points)
    return max(known, default=record.candidates[0])
