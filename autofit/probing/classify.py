"""From the raw ends of a probe's ranks to one Outcome."""

from __future__ import annotations

import signal

from autofit.domain.outcome import Crashed, Measured, Outcome, OutOfMemory, Place, TimedOut, Unsupported
from autofit.domain.strategy import Strategy
from autofit.probing.protocol import FailureKind, GroupEnded, RankFailed, RankMeasured

# Of several failures the cause is the one that the others follow from: they lost their neighbour in a collective.
_CAUSES = (FailureKind.OUT_OF_MEMORY, FailureKind.UNSUPPORTED, FailureKind.DIVERGED, FailureKind.CRASHED)


def classify(
    ended: GroupEnded, strategy: Strategy | None, *, rank_count: int, oom_kills: int, log_path: str
) -> Outcome:
    """`oom_kills` is by how much the cgroup's count of killed processes grew during the probe.

    `strategy` is None for a script that never came to `deepspeed.initialize`, and so cannot have been measured.

    Of a rehearsal there is one end: the others of `rank_count` count as equally fast, and its memory is one rank's.
    """
    measured = [end.report for end in ended.ends if isinstance(end.report, RankMeasured)]
    if len(measured) == len(ended.ends):
        assert strategy is not None
        return _measured(measured, strategy, ended, rank_count)
    failed = {end.rank: end.report for end in ended.ends if isinstance(end.report, RankFailed)}
    if failed:
        return _failed(*first_failure(failed), log_path, ended.total_s)
    if ended.silent_rank is not None:
        phase = next(end.last_phase for end in ended.ends if end.rank == ended.silent_rank)
        return TimedOut(ended.silent_rank, phase, ended.silent_s, ended.total_s)
    if ended.time_limit_s is not None:
        first = ended.ends[0]
        return TimedOut(first.rank, first.last_phase, ended.time_limit_s, ended.total_s, was_silent=False)
    return _died(ended, oom_kills, log_path)


def first_failure(failed: dict[int, RankFailed]) -> tuple[int, RankFailed]:
    """The rank whose failure the others only follow from, with its report."""
    return min(failed.items(), key=lambda item: (_CAUSES.index(item[1].kind), item[1].at_s))


def _measured(reports: list[RankMeasured], strategy: Strategy, ended: GroupEnded, rank_count: int) -> Measured:
    """The slowest rank of each kind of micro-batch, put together as often as a step of the request has it."""
    accumulation = strategy.gradient_accumulation
    last_s = _slowest_s([report.last_s for report in reports])
    first_s = _slowest_s([report.first_s for report in reports], last_s)
    middle_s = _slowest_s([report.middle_s for report in reports], first_s)
    step_s = last_s + (first_s if accumulation > 1 else 0.0) + max(0, accumulation - 2) * middle_s
    tokens = max(report.tokens_per_micro_batch for report in reports) * rank_count * accumulation
    return Measured(
        peak_device_bytes=max(report.peak_device_bytes for report in reports),
        peak_host_bytes=sum(report.peak_host_bytes for report in reports),
        tokens_per_s=tokens / step_s,
        step_s=step_s,
        micro_step_s=middle_s,
        update_s=max(0.0, last_s - middle_s),
        base_bytes=max(report.base_bytes for report in reports),
        alloc_retries=max(report.alloc_retries for report in reports),
        start_s=ended.start_s,
        total_s=ended.total_s,
        peak_allocated_bytes=_most_bytes([report.peak_allocated_bytes for report in reports]),
    )


def _most_bytes(sizes: list[int | None]) -> int | None:
    return max((size for size in sizes if size is not None), default=None)


def _slowest_s(durations_s: list[float | None], otherwise_s: float = 0.0) -> float:
    return max((duration_s for duration_s in durations_s if duration_s is not None), default=otherwise_s)


def _failed(rank: int, report: RankFailed, log_path: str, total_s: float) -> Outcome:
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
        return Unsupported(report.message, total_s)
    return Crashed(rank, report.phase, report.message, log_path, total_s)


def _died(ended: GroupEnded, oom_kills: int, log_path: str) -> Outcome:
    """No rank left a report: the first that the agent did not kill itself is the one that died."""
    died = [end for end in ended.ends if not end.was_killed and end.exit_code != 0] or list(ended.ends)
    end = died[0]
    if end.exit_code == -signal.SIGKILL and oom_kills > 0:
        message = "killed by the kernel: the memory of the host (or of its cgroup) ran out"
        return OutOfMemory(end.rank, end.last_phase, Place.HOST, message, total_s=ended.total_s)
    return Crashed(end.rank, end.last_phase, f"rank {end.rank} {_how(end.exit_code)}", log_path, ended.total_s)


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "did not end"
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code} and no report"
