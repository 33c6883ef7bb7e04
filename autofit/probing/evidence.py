"""What kept ranks from their end, told by what they leave behind: alike of a probe, the full run, a job handed over."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, replace

from autofit.domain.ending import OWN_SIGNALS
from autofit.domain.outcome import (
    Crashed,
    DeviceLost,
    DiskFull,
    Diverged,
    Failure,
    Killed,
    NotFinite,
    OutOfMemory,
    Phase,
    Place,
    SignalCrash,
    TimedOut,
    Unsupported,
    UserFault,
)
from autofit.probing.protocol import NO_ROOM_EXIT, FailureKind, RankDiverged, RankEnd, RankFailed

# Of several failures the cause is the one that the others follow from: they lost their neighbour in a collective.
_CAUSES = (
    FailureKind.OUT_OF_MEMORY,
    FailureKind.DEVICE_LOST,
    FailureKind.DISK_FULL,
    FailureKind.UNSUPPORTED,
    FailureKind.USER_FAULT,
    FailureKind.NOT_FINITE,
    RankDiverged,
    FailureKind.CRASHED,
    FailureKind.LOST_NEIGHBOUR,
)

_SAID: dict[FailureKind, type[DiskFull | NotFinite | UserFault]] = {
    FailureKind.DISK_FULL: DiskFull,
    FailureKind.NOT_FINITE: NotFinite,
    FailureKind.USER_FAULT: UserFault,
}

_LACKING = {
    Place.HOST: "killed by the kernel: the memory of the host (or of its cgroup) ran out",
    Place.SHARED: "killed by SIGBUS: /dev/shm is full",
}

_LAST_SIGNAL = signal.SIGSYS  # the real-time ones from there on kill nobody by chance
_SHELL, _LAUNCHER = 128, 256
_HANG_UP = _LAUNCHER - signal.SIGHUP  # 255 is also what ssh leaves with, and whoever exits with -1


@dataclass(frozen=True)
class Evidence:
    """What is left of ranks that did not all come to their end.

    `ends` are those of the ranks that were seen, none of a script that ran unwatched. `oom_kills` is by how much the
    cgroup's count of killed processes grew meanwhile. `exit_code` is that of DeepSpeed's launcher, which stands for the
    ranks' own where nobody saw those; None where there was no launcher. `timed_out` is said by whoever ended the ranks
    for it. `unseen` is where a rank is taken to be that nobody saw. `is_shared_full` is whether /dev/shm was, when they
    had ended.
    """

    ends: tuple[RankEnd, ...]
    oom_kills: int
    log_path: str | None
    total_s: float
    exit_code: int | None = None
    timed_out: TimedOut | None = None
    unseen: Phase = Phase.START
    is_shared_full: bool = False


def failure(evidence: Evidence) -> Failure:
    """What kept the ranks from their end: what one of them says, else for what they were ended, else how one died."""
    told = _first_told(evidence.ends)
    if told is not None and not any(_is_behind(end, told[1]) for end in evidence.ends):
        return _told(*told, evidence)
    if evidence.timed_out is not None:
        return replace(evidence.timed_out, total_s=evidence.total_s)
    return _died(evidence)


def _first_told(ends: Iterable[RankEnd]) -> tuple[int, RankFailed | RankDiverged] | None:
    """The rank whose failure the others only follow from, with its report."""
    told = [(end.rank, end.report) for end in ends if isinstance(end.report, (RankFailed, RankDiverged))]
    return min(told, key=lambda one: (_priority(one[1]), one[1].at_s), default=None)


def _priority(report: RankFailed | RankDiverged) -> int:
    return _CAUSES.index(RankDiverged if isinstance(report, RankDiverged) else report.kind)


def _is_behind(end: RankEnd, report: RankFailed | RankDiverged) -> bool:
    """Whether the wordless end of one rank is what went wrong, and the report of another only follows from it: the
    connections of the others break, and these say so."""
    if not isinstance(report, RankFailed) or end.report is not None or end.was_killed:
        return False
    if report.kind is FailureKind.LOST_NEIGHBOUR:
        return True  # with exit code 0 as well: a rank that has come to its end has left a report
    # An abort may itself follow from an exception elsewhere: gloo's threads and NCCL's watchdog end so when they lose
    # a neighbour.
    is_signal = end.exit_code is None or (end.exit_code < 0 and end.exit_code != -signal.SIGABRT)
    return report.kind is FailureKind.CRASHED and is_signal


def _told(rank: int, report: RankFailed | RankDiverged, evidence: Evidence) -> Failure:
    total_s = evidence.total_s
    if isinstance(report, RankDiverged):
        return Diverged(rank, report.phase, report.divergence, total_s)
    if report.kind is FailureKind.OUT_OF_MEMORY:
        return OutOfMemory(
            rank=rank,
            phase=report.phase,
            place=report.place,
            message=report.message,
            requested_bytes=report.requested_bytes,
            peak_bytes=report.peak_bytes,
            total_s=total_s,
        )
    if report.kind is FailureKind.UNSUPPORTED:
        return Unsupported(report.message, total_s, rank, report.phase)
    if report.kind is FailureKind.DEVICE_LOST:
        return DeviceLost(rank, report.phase, report.message, total_s, report.xid)
    if (kind := _SAID.get(report.kind)) is not None:
        return kind(rank, report.phase, report.message, total_s)
    return Crashed(rank, report.phase, report.message, evidence.log_path, total_s, is_ours=report.is_ours)


def _died(evidence: Evidence) -> Failure:
    """What is said where no rank left words of its own: the first that nobody else ended is the one that died."""
    dead = _first_dead(evidence.ends)
    rank, phase = (None, evidence.unseen) if dead is None else (dead.rank, dead.last_phase)
    is_seen = dead is not None and dead.exit_code is not None
    exit_code = dead.exit_code if dead is not None and is_seen else evidence.exit_code
    number = _own_signal(exit_code) if is_seen else launcher_signal(exit_code)
    if number is not None and (place := _lacking(number, evidence)) is not None:
        return OutOfMemory(rank, phase, place, _LACKING[place], total_s=evidence.total_s)
    if number is not None:
        kind = SignalCrash if number in OWN_SIGNALS else Killed
        return kind(rank, phase, number, evidence.log_path, evidence.total_s)
    if dead is not None and exit_code == NO_ROOM_EXIT:
        return DiskFull(rank, phase, "there was no room for what the rank had to report", evidence.total_s)
    who = "the job" if rank is None else f"rank {rank}"
    return Crashed(rank, phase, f"{who} {_how(exit_code)}", evidence.log_path, evidence.total_s, exit_code)


def _lacking(number: int, evidence: Evidence) -> Place | None:
    """The memory for whose want a signal came."""
    if number == signal.SIGKILL and evidence.oom_kills > 0:
        return Place.HOST
    return Place.SHARED if number == signal.SIGBUS and evidence.is_shared_full else None


def launcher_signal(exit_code: int | None) -> int | None:
    """The signal that the exit code of DeepSpeed's launcher tells of; None where it tells of none.

    launch.py leaves with -n for signal n of a rank, which the system tells as 256 - n; a launcher that is honest about
    what it started tells 128 + n, as a shell does; -n is its own.
    """
    if exit_code is None or exit_code in (0, _HANG_UP):
        return None
    for number in (-exit_code, _LAUNCHER - exit_code, exit_code - _SHELL):
        if 0 < number <= _LAST_SIGNAL:
            return number
    return None


def _own_signal(exit_code: int | None) -> int | None:
    return -exit_code if exit_code is not None and exit_code < 0 else None


def _first_dead(ends: Iterable[RankEnd]) -> RankEnd | None:
    """The rank without a report whose death the others follow from."""
    wordless = [end for end in ends if end.report is None]
    died = [end for end in wordless if not end.was_killed and end.exit_code != 0]
    return min(died or wordless, key=_consequence, default=None)


def _consequence(end: RankEnd) -> int:
    """How likely a death only follows from another one: who was killed from outside follows from nobody, while a rank
    aborts when it has lost its neighbour."""
    number = _own_signal(end.exit_code)
    if number is None:
        return 2
    if number == signal.SIGABRT:
        return 3
    return 1 if number in OWN_SIGNALS else 0


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "did not end"
    return f"ended with exit code {exit_code} and no report"
