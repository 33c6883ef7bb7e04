"""The ranks of a full run, by what they say of themselves: where each one is, and which of them died first."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from autofit.domain.outcome import Phase
from autofit.probing.protocol import FailureKind, RankEnd, RankFailed, RankReport, RankStopped, RankTrained, read_report
from autofit.process.host_processes import stat_fields
from autofit.process.rank_place import RankPlace, read_exit_code, read_place

_STATE, _EXIT_CODE = 0, 49  # fields 3 and 52 of proc_pid_stat(5)


@dataclass(frozen=True)
class _Death:
    exit_code: int | None  # negative for a signal; None where that is not to be seen any more


class RankWatch:
    """Sees which rank died first: DeepSpeed's launch.py looks once a second, ends the others when one has died, and
    tells of none."""

    def __init__(self, reports: Path, rank_count: int) -> None:
        self._reports = reports
        self._rank_count = rank_count
        self._fallen: dict[int, _Death] = {}
        self._has_failed = False  # a rank says so
        self._is_over = False  # what went wrong is known

    def poll(self) -> None:
        """Looks at the ranks; to be called several times a second: after the first death the others follow from it."""
        if self._is_over:
            return
        failed = [one for one in read_reports(self._reports, self._rank_count).values() if not _has_done_well(one)]
        deaths = {rank: death for rank in range(self._rank_count) if (death := self._death(rank)) is not None}
        is_lost = all(_has_lost_neighbour(report) for report in failed)
        # Who was killed is seen with who lost it, at the latest; whom the launcher ends for that one only later.
        is_first = is_lost and not self._has_failed
        self._has_failed = bool(failed)
        self._fallen = {rank: death for rank, death in deaths.items() if _is_its_own(death) or is_first}
        self._is_over = bool(self._fallen) or not is_lost

    def phase(self, rank: int) -> Phase:
        """The phase that a rank entered last."""
        place = read_place(self._reports, rank)
        return Phase.START if place is None else place.phase

    def places(self) -> dict[int, RankPlace]:
        """Where the ranks are that have begun."""
        places = {rank: read_place(self._reports, rank) for rank in range(self._rank_count)}
        return {rank: place for rank, place in places.items() if place is not None}

    def ends(self) -> tuple[RankEnd, ...]:
        """The ends of all ranks that have begun. Of those without a report the first to fall died by themselves, and
        the others were ended for it."""
        reports = read_reports(self._reports, self._rank_count)
        begun = [rank for rank in range(self._rank_count) if rank in reports or read_place(self._reports, rank)]
        return tuple(self._end(rank, reports.get(rank)) for rank in begun)

    def _end(self, rank: int, report: RankReport | None) -> RankEnd:
        death = self._fallen.get(rank)
        exit_code = None if death is None else death.exit_code
        if death is not None and exit_code is None:  # the launcher may have seen it meanwhile
            exit_code = read_exit_code(self._reports, rank)
        was_killed = (self._is_over or self._has_failed) and death is None
        return RankEnd(rank, exit_code, was_killed, self.phase(rank), report)

    def _death(self, rank: int) -> _Death | None:
        """How a rank died; None while it runs, before it has begun, and where it left a report."""
        place, exit_code = read_place(self._reports, rank), read_exit_code(self._reports, rank)
        death = None if place is None else _death_of(place.process_id)
        if report_path(self._reports, rank).exists():
            return None
        return death if exit_code is None else _Death(exit_code)


def report_path(reports: Path, rank: int) -> Path:
    """Where a rank of the full run leaves its report."""
    return reports / f"rank{rank}.json"


def read_reports(reports: Path, rank_count: int) -> dict[int, RankReport]:
    """The reports by rank; a rank that was killed has none."""
    paths = {rank: report_path(reports, rank) for rank in range(rank_count)}
    return {rank: read_report(path.read_bytes()) for rank, path in paths.items() if path.exists()}


def _has_done_well(report: RankReport) -> bool:
    return isinstance(report, (RankTrained, RankStopped))


def _has_lost_neighbour(report: RankReport) -> bool:
    """Whether it only follows from the end of another rank, which may still be on its way out."""
    return isinstance(report, RankFailed) and report.kind is FailureKind.LOST_NEIGHBOUR


def _is_its_own(death: _Death) -> bool:
    """Whether nobody ended it for another one's sake: launch.py does so with SIGTERM."""
    return death.exit_code not in (None, -signal.SIGTERM)


def _death_of(process_id: int) -> _Death | None:
    """How a process died, None while it runs; of a zombie the kernel still tells how it ended, or 0 where it does not
    let us see that."""
    fields = stat_fields(process_id)
    if not fields:
        return _Death(None)
    if fields[_STATE] != "Z":
        return None
    status = int(fields[_EXIT_CODE])
    return _Death(os.waitstatus_to_exitcode(status) if status else None)
