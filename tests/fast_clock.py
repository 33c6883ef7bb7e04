"""A clock that goes faster once a test says so: minutes of waiting pass in seconds, and none before."""

from __future__ import annotations

import time

_STEP_S = 4.0  # for each time that somebody looks


class FastClock:
    def __init__(self) -> None:
        self._ahead_s = 0.0
        self.look_count = 0
        self.is_fast = False

    def __call__(self) -> float:
        self.look_count += 1
        self._ahead_s += _STEP_S if self.is_fast else 0.0
        return time.monotonic() + self._ahead_s
