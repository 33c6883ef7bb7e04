"""Waiting for processes that are to end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Set

from autofit.process.process_tree import reap

_POLL_S = 0.05
_REPEAT_S = 1.0  # a signal that comes twice within this time is one: `timeout` and a closed terminal send two


class GracePeriod:
    """A wait that is over when the grace is, or when a signal cuts it short. `ended` has the exit codes by process id
    until now."""

    def __init__(self, handled: Set[signal.Signals], grace_s: float) -> None:
        self.handled = handled
        self.ended: dict[int, int] = reap()
        self._began_s = time.monotonic()
        self._end_s = self._began_s + grace_s

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        while not is_so() and time.monotonic() < self._end_s:
            heard = signal.sigtimedwait(self.handled, _POLL_S)
            self.ended |= reap()
            if heard is not None and time.monotonic() - self._began_s > _REPEAT_S:
                self._end_s = time.monotonic()
