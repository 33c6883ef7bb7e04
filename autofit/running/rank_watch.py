"""The ranks of a full run, by what they say of themselves: where each one is, and which of them died first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil

from autofit.domain.outcome import Phase
from autofit.probing.protocol import RankEnd, RankReport
from autofit.probing.rank_place import read_place
from autofit.running.process_tree import is_running


class RankWatch:
    """DeepSpeed's launcher ends the others within a second or more of the first one's death, and tells of none."""

    def __init__(self, reports: Path, rank_count: int) -> None:
        self._reports = reports
        self._rank_count = rank_count
        self._processes: dict[int, psutil.Process | None] = {}  # None: it was gone before it was looked at
        self._fallen: frozenset[int] = frozenset()

    def look(self) -> None:
        """To be called several times a second."""
        for rank in range(self._rank_count):
            if rank not in self._processes and (place := read_place(self._reports, rank)) is not None:
                self._processes[rank] = _process(place.process_id)
        if not self._fallen:
            self._fallen = frozenset(rank for rank in self._processes if self._has_fallen(rank))

    def phase(self, rank: int) -> Phase:
        """That it entered last."""
        place = read_place(self._reports, rank)
        return Phase.START if place is None else place.phase

    def ends(self, reports: Mapping[int, RankReport]) -> tuple[RankEnd, ...]:
        """Of all ranks that left a report or were seen. Of those without one the first to fall died by themselves; the
        others were ended for it."""
        seen = sorted({*reports, *self._processes})
        return tuple(
            RankEnd(rank, None, bool(self._fallen) and rank not in self._fallen, self.phase(rank), reports.get(rank))
            for rank in seen
        )

    def _has_fallen(self, rank: int) -> bool:
        process = self._processes[rank]
        is_gone = process is None or not is_running(process)
        return is_gone and not report_path(self._reports, rank).exists()


def report_path(reports: Path, rank: int) -> Path:
    """Where a rank of the full run leaves its report."""
    return reports / f"rank{rank}.json"


def _process(process_id: int) -> psutil.Process | None:
    try:
        return psutil.Process(process_id)
    except psutil.NoSuchProcess:
        return None
