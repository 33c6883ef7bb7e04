"""Putting away children must not be cut short: signals wait until it is done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def shielded() -> Iterator[None]:
    """Within, signals that would end autofit are held back; afterwards they arrive. For the main thread.

    By their handlers rather than by a mask: a mask holds for one thread, and a screen's thread would take the signal
    for the whole process.
    """
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    before = {number: signal.signal(number, hold) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for held_number in held:
            signal.raise_signal(held_number)
