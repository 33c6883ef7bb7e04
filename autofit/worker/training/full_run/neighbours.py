"""The other ranks of a full run, by what they leave in the folder of reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autofit.probing.protocol import RankStopped, RankTrained, read_report
from autofit.process.process_state import ProcessState, process_state
from autofit.process.rank_place import read_place


@dataclass(frozen=True)
class Neighbours:
    reports: Path
    own_rank: int
    rank_count: int

    def has_lost_one(self) -> bool:
        """Whether another rank has ended before its time."""
        return any(self._is_lost(rank) for rank in range(self.rank_count) if rank != self.own_rank)

    def _is_lost(self, rank: int) -> bool:
        place, report = read_place(self.reports, rank), self.reports / f"rank{rank}.json"
        if place is None or process_state(place.process_id) is not ProcessState.ENDED:
            return False
        return not (report.exists() and isinstance(read_report(report.read_bytes()), (RankStopped, RankTrained)))
