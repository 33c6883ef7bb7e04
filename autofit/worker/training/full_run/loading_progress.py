"""What the ranks of a full run tell while the model is loaded, which takes minutes where it is large."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from autofit.domain.codec import to_json
from autofit.domain.event import ModelLoading, Note
from autofit.domain.outcome import Phase
from autofit.worker.rank.lifecycle import Rank

_EVERY_S = 2.0


class LoadingProgress:
    """Hears of every weight: a sign of life, and rank 0 writes a line of JSON, both every two seconds at most."""

    def __init__(self, path: Path, rank: Rank, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._rank = rank
        self._clock = clock
        self._told_at_s = clock()

    def __call__(self, done: int, count: int) -> None:
        now_s = self._clock()
        if now_s - self._told_at_s >= _EVERY_S:
            self._told_at_s = now_s
            self._rank.enter(Phase.BUILD)
            self._write(ModelLoading(done, count))

    def tell(self, text: str) -> None:
        """Tells people one sentence; each rank says it, and they hear it once."""
        self._write(Note(text))

    def _write(self, event: ModelLoading | Note) -> None:
        if self._rank.index == 0:
            with self._path.open("a") as file:
                file.write(to_json(event) + "\n")
