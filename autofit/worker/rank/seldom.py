"""What need not be done at each step, however short steps are."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 1.0
"""Deadlines over signs of life are minutes, and what is shown is shown a few times a second at most."""


class Seldom:
    """Does `act` the first time that it is called, and then once in EVERY_S at most; `clock` gives seconds."""

    def __init__(self, act: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._act = act
        self._clock = clock
        self._done_at_s = -EVERY_S

    def __call__(self) -> None:
        now_s = self._clock()
        if now_s - self._done_at_s >= EVERY_S:
            self._done_at_s = now_s
            self._act()
