"""The one Outcome that the raw ends of a probe's ranks amount to."""

from __future__ import annotations

from typing import TypeVar

from autofit.domain.outcome import Diverged, Measured, Outcome, TimedOut
from autofit.domain.strategy import Strategy
from autofit.planning.probe_steps import whole_step_s
from autofit.probing.energy_sum import energy
from autofit.probing.evidence import Evidence, failure
from autofit.probing.protocol import GroupEnded, RankMeasured

N = TypeVar("N", int, float)


def classify(
    ended: GroupEnded,
    strategy: Strategy | None,
    *,
    rank_count: int,
    oom_kills: int,
    log_path: str,
    is_shared_full: bool = False,
) -> Outcome:
    """The outcome of a probe: `oom_kills` is by how much the cgroup's count of killed processes grew during the probe,
    `is_shared_full` whether /dev/shm was when it ended.

    `strategy` is None for a script that never came to `deepspeed.initialize`, and so cannot have been measured.

    Of a rehearsal there is one end: the others of `rank_count` count as equally fast, and its memory is one rank's.
    """
    measured = [end.report for end in ended.ends if isinstance(end.report, RankMeasured)]
    # Who was stopped goes on to its end when it is woken for its stacks: that measures nothing.
    if len(measured) == len(ended.ends) and ended.silent_rank is None:
        assert strategy is not None
        return _measured(measured, strategy, ended, rank_count)
    found = failure(
        Evidence(
            ended.ends,
            oom_kills,
            log_path,
            ended.total_s,
            timed_out=_timed_out(ended),
            is_shared_full=is_shared_full,
        )
    )
    assert not isinstance(found, Diverged)  # nobody judges the few steps of a probe
    return found


def _timed_out(ended: GroupEnded) -> TimedOut | None:
    if ended.silent_rank is not None:
        phase = next(end.last_phase for end in ended.ends if end.rank == ended.silent_rank)
        return TimedOut(ended.silent_rank, phase, ended.silent_s)
    if ended.time_limit_s is not None:
        first = ended.ends[0]
        return TimedOut(first.rank, first.last_phase, ended.time_limit_s, was_silent=False)
    return None


def _measured(reports: list[RankMeasured], strategy: Strategy, ended: GroupEnded, rank_count: int) -> Measured:
    """The figures of all ranks: the slowest rank of each kind of micro-batch, as often as a step of the request has
    it."""
    accumulation = strategy.gradient_accumulation
    last_s = _slowest_s([report.last_s for report in reports])
    first_s = _slowest_s([report.first_s for report in reports], last_s)
    middle_s = _slowest_s([report.middle_s for report in reports], first_s)
    step_s = whole_step_s(first_s, middle_s, last_s, accumulation)
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
        peak_allocated_bytes=_most([report.peak_allocated_bytes for report in reports]),
        speed_error=_most([report.speed_error for report in reports]),
        step_count=_most([report.step_count for report in reports]),
        energy=energy([report.energy for report in reports]),
        is_outpaced=any(report.is_outpaced for report in reports),
    )


def _most(values: list[N | None]) -> N | None:
    return max((value for value in values if value is not None), default=None)


def _slowest_s(durations_s: list[float | None], otherwise_s: float = 0.0) -> float:
    return max((duration_s for duration_s in durations_s if duration_s is not None), default=otherwise_s)
