"""Signs of life of the ranks of a full run, seen from outside: their heartbeats, what they read, write and have
computed for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from autofit.process.process_state import process_state
from autofit.process.rank_place import RankPlace, beat_ns
from autofit.running.stall_judge import STEPPING, Sign

_WORK_EVERY_S = 5.0
_MOVED_BYTES = 2**24  # less of it is a tracker that says that it lives
_COMPUTED_S = 5.0


class RankSigns:
    """Looks at the ranks that leave their places in `reports`. `clock` gives seconds."""

    def __init__(self, reports: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._reports = reports
        self._clock = clock
        self._work: dict[int, int] = {}  # by process, as it was when last looked at
        self._worked_at_s = -_WORK_EVERY_S

    def look(self, places: dict[int, RankPlace]) -> list[Sign]:
        """A sign of each rank in `places`, by its number."""
        if self._clock() - self._worked_at_s >= _WORK_EVERY_S:
            self._worked_at_s = self._clock()
            self._work = {one.process_id: _work(one.process_id) for one in places.values() if _may_be_long(one)}
        return [self._sign(rank, place) for rank, place in places.items()]

    def _sign(self, rank: int, place: RankPlace) -> Sign:
        work = self._work.get(place.process_id, 0)
        beat = beat_ns(self._reports, rank)
        return Sign(rank, place.phase, place.step, beat, work, process_state(place.process_id))


def _may_be_long(place: RankPlace) -> bool:
    """Whether it may be long from one heartbeat to the next: a checkpoint is written, data are tokenized."""
    return place.phase not in STEPPING


def _work(process_id: int) -> int:
    """A number that grows while a process or those below it read or write much, or these compute."""
    moved_bytes, computed_s = 0, 0.0
    for one in _family(process_id):
        with suppress(psutil.Error):  # it has ended meanwhile
            io = one.io_counters()
            moved_bytes += io.read_chars + io.write_chars + io.read_bytes + io.write_bytes
            computed_s += 0.0 if one.pid == process_id else sum(one.cpu_times()[:2])
    return moved_bytes // _MOVED_BYTES + int(computed_s / _COMPUTED_S)


def _family(process_id: int) -> Iterator[psutil.Process]:
    try:
        process = psutil.Process(process_id)
        yield process
        yield from process.children(recursive=True)
    except psutil.Error:
        return
