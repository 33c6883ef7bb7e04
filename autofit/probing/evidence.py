"""What kept ranks from their end, told by what they leave behind: alike of a probe, the full run, a job handed over."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, replace

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
from autofit.probing.protocol import FailureKind, RankDiverged, RankEnd, RankFailed

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
_CRASHES = (FailureKind.CRASHED, FailureKind.LOST_NEIGHBOUR)

_SAID: dict[FailureKind, type[DeviceLost | DiskFull | NotFinite | UserFault]] = {
    FailureKind.DEVICE_LOST: DeviceLost,
    FailureKind.DISK_FULL: DiskFull,
    FailureKind.NOT_FINITE: NotFinite,
    FailureKind.USER_FAULT: UserFault,
}

# A process sends itself these by what it does; every other signal somebody sends (signal(7)).
_OWN_SIGNALS = {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
}

# SIGKILL in the exit code of DeepSpeed's launcher: launch.py leaves with -n for signal n of a rank, which the system
# tells as 256 - n; a launcher that is honest about what it started tells 128 + n, as a shell does.
_LAUNCHER_SAW_KILL = (256 - signal.SIGKILL, 128 + signal.SIGKILL)


@dataclass(frozen=True)
class Evidence:
    """What is left of ranks that did not all come to their end.

    `ends` are those of the ranks that were seen, none of a script that ran unwatched. `oom_kills` is by how much the
    cgroup's count of killed processes grew meanwhile. `exit_code` is that of DeepSpeed's launcher, which stands for the
    ranks' own where nobody saw those; None where there was no launcher. `timed_out` is said by whoever ended the ranks
    for it. `unseen` is where a rank is taken to be that nobody saw.
    """

    ends: tuple[RankEnd, ...]
    oom_kills: int
    log_path: str | None
    total_s: float
    exit_code: int | None = None
    timed_out: TimedOut | None = None
    unseen: Phase = Phase.START


def failure(evidence: Evidence) -> Failure:
    """What kept the ranks from their end: what one of them says, else for what they were ended, else how one died."""
    told = _first_told(evidence.ends)
    if told is not None and not (_is_crash(told[1]) and any(_died_alone(end) for end in evidence.ends)):
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


def _is_crash(report: RankFailed | RankDiverged) -> bool:
    return isinstance(report, RankFailed) and report.kind in _CRASHES


def _died_alone(end: RankEnd) -> bool:
    """Whether a signal killed it that nobody of us has sent. It breaks the connections of the others, and these say so:
    that is not what went wrong."""
    return end.report is None and not end.was_killed and (end.exit_code is None or end.exit_code < 0)


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
    if (kind := _SAID.get(report.kind)) is not None:
        return kind(rank, report.phase, report.message, total_s)
    return Crashed(rank, report.phase, report.message, evidence.log_path, total_s)


def _died(evidence: Evidence) -> Failure:
    """What is said where no rank left words of its own: the first that nobody else ended is the one that died."""
    dead = _first_dead(evidence.ends)
    rank, phase = (None, evidence.unseen) if dead is None else (dead.rank, dead.last_phase)
    exit_code = evidence.exit_code if dead is None or dead.exit_code is None else dead.exit_code
    if evidence.oom_kills > 0 and (exit_code == -signal.SIGKILL or evidence.exit_code in _LAUNCHER_SAW_KILL):
        message = "killed by the kernel: the memory of the host (or of its cgroup) ran out"
        return OutOfMemory(rank, phase, Place.HOST, message, total_s=evidence.total_s)
    if exit_code is not None and exit_code < 0:
        kind = SignalCrash if -exit_code in _OWN_SIGNALS else Killed
        return kind(rank, phase, -exit_code, evidence.log_path, evidence.total_s)
    who = "the job" if rank is None else f"rank {rank}"
    return Crashed(rank, phase, f"{who} {_how(exit_code)}", evidence.log_path, evidence.total_s, exit_code)


def _first_dead(ends: Iterable[RankEnd]) -> RankEnd | None:
    wordless = [end for end in ends if end.report is None]
    died = [end for end in wordless if not end.was_killed and end.exit_code != 0]
    return next(iter([*died, *wordless]), None)


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "did not end"
    return f"ended with exit code {exit_code} and no report"
