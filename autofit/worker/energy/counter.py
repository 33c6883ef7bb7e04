"""A counter of energy, and how often its hardware brings it up to date."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

_LOOK_S = 0.002
_PATIENCE_S = 1.0


class EnergyCounter(Protocol):
    """Counts joules since some moment. `name` is one for all who read the same counter."""

    name: str
    is_whole_device: bool  # it counts what others have of the device, too

    def read_j(self) -> float:
        """The joules until now; NotMeasurable where it does not answer (any more)."""


class NotMeasurable(Exception):
    """There is no such counter here, or it may not be read; one phrase says why."""


class UpdatePeriod:
    """Measures a counter's update period beside other work: it looks until the counter has changed twice.

    Hardware counters jump: an H100's some ten times a second. What a window counts errs by up to one period at either
    end.
    """

    def __init__(
        self,
        counter: EnergyCounter,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._counter, self._clock, self._sleep = counter, clock, sleep
        self._period_s: float | None = None
        self._thread = threading.Thread(target=self._look, name="energy counter", daemon=True)
        self._thread.start()

    def seconds(self) -> float | None:
        """The period (s); None where the counter stood still for a second."""
        self._thread.join()
        return self._period_s

    def _look(self) -> None:
        try:
            self._wait_for_change()
            began_at_s = self._clock()
            self._wait_for_change()
        except NotMeasurable:
            return
        self._period_s = self._clock() - began_at_s

    def _wait_for_change(self) -> None:
        began_at_s, first_j = self._clock(), self._counter.read_j()
        while self._counter.read_j() == first_j:
            if self._clock() - began_at_s > _PATIENCE_S:
                raise NotMeasurable("its counter stands still")
            self._sleep(_LOOK_S)
