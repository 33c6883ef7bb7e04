"""Counting what is fetched, as it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .download import Fetched, FetchMessage

_TELL_EVERY_S = 0.25

Say = Callable[[FetchMessage], None]


class Tally:
    """How many bytes are here, told a few times a second."""

    def __init__(
        self, say: Say, done_bytes: int, total_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._done_bytes = done_bytes
        self._total_bytes = total_bytes
        self._told_s = float("-inf")
        self.add(0)

    def add(self, n_bytes: int) -> None:
        with self._lock:
            self._done_bytes += n_bytes
            if self._clock() - self._told_s >= _TELL_EVERY_S:
                self.tell()

    def tell(self) -> None:
        self._told_s = self._clock()
        self._say(Fetched(self._done_bytes, self._total_bytes))

    def meter(self, counted_bytes: int) -> type[Any]:
        """A class as the hub's client makes its progress bars of, which only counts, for a file of which
        `counted_bytes` are counted already; it may begin elsewhere."""
        tally = self

        class Meter:
            def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
                tally.add(initial - counted_bytes)

            def __enter__(self) -> Meter:
                return self

            def __exit__(
                self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
            ) -> None: ...

            def update(self, n_bytes: float | None = 1) -> None:
                tally.add(int(n_bytes or 0))

            # Of the client's other protocol: what has come and is not on the disk yet, and words beside a bar.
            def update_transfer(self, n_bytes: float | None = 1) -> None: ...

            def set_postfix_str(self, text: str, refresh: bool = True) -> None: ...

            def set_transfer_postfix_str(self, text: str, refresh: bool = True) -> None: ...

        return Meter
