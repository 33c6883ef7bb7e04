"""What an outcome is called on a screen."""

from __future__ import annotations

from autofit.domain.ending import PLACES, broken_text
from autofit.domain.outcome import BROKEN, Measured, Outcome, OutOfMemory, Place, Unsupported
from autofit.domain.units import format_bytes
from autofit.planning.plan.fit import fits

from .line import Style

_WHOSE = {Place.DEVICE: "", Place.HOST: "host ", Place.SHARED: "shared "}

OUTPACED = "slower beyond doubt after 1 step"


def verdict_text(outcome: Outcome, device_memory_bytes: int | None = None) -> str:
    """An outcome in one phrase: what was measured, or where it failed and by how much."""
    match outcome:
        case Measured():
            text = f"{outcome.tokens_per_s:,.0f} tokens/s, {format_bytes(outcome.peak_device_bytes)}"
            is_tight = device_memory_bytes is not None and not fits(outcome, device_memory_bytes)
            if is_tight:
                return f"{text}: too tight for a whole training"
            return f"{text}: {OUTPACED}" if outcome.is_outpaced else text
        case OutOfMemory():
            return _out_of_memory(outcome, device_memory_bytes)
        case _:
            return broken_text(outcome)


def verdict_style(outcome: Outcome) -> Style:
    return Style.BROKEN if isinstance(outcome, BROKEN) and not isinstance(outcome, Unsupported) else Style.BAD


def _out_of_memory(outcome: OutOfMemory, device_memory_bytes: int | None) -> str:
    text = f"out of {_WHOSE[outcome.place]}memory in {PLACES[outcome.phase]}"
    short_bytes = _short_bytes(outcome, device_memory_bytes)
    if short_bytes is not None:
        return f"{text}, {format_bytes(short_bytes)} short"
    if outcome.requested_bytes:
        return f"{text}, asked {format_bytes(outcome.requested_bytes)}"
    return text


def _short_bytes(outcome: OutOfMemory, device_memory_bytes: int | None) -> int | None:
    """What was held and asked for beyond the device's memory; None when that is not known."""
    is_device = outcome.place is Place.DEVICE
    if not is_device or not outcome.requested_bytes or not outcome.peak_bytes or not device_memory_bytes:
        return None
    short_bytes = outcome.peak_bytes + outcome.requested_bytes - device_memory_bytes
    return short_bytes if short_bytes > 0 else None
