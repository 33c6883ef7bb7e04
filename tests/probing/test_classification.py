"""From ranks' raw ends to one outcome: every way in which a probe can end."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from autofit.domain.outcome import (
    Crashed,
    DeviceLost,
    DiskFull,
    Killed,
    Measured,
    NotFinite,
    OutOfMemory,
    Phase,
    Place,
    SignalCrash,
    TimedOut,
    Unsupported,
    UserFault,
)
from autofit.domain.strategy import Strategy
from autofit.probing.classification import classify
from autofit.probing.protocol import (
    NO_ROOM_EXIT,
    FailureKind,
    GroupEnded,
    RankEnd,
    RankFailed,
    RankMeasured,
    RankReport,
)
from tests.builders import make_rung

STRATEGY = Strategy(
    make_rung(2),
    4,
    4,
)


def measured(**changes: float | None) -> RankMeasured:
    return replace(
        RankMeasured(100, 10, 1, 0, first_s=0.9, middle_s=1.0, last_s=1.5, tokens_per_micro_batch=50.0), **changes
    )


def failed(kind: FailureKind, at_s: float, phase: Phase = Phase.BACKWARD, place: Place = Place.DEVICE) -> RankFailed:
    return RankFailed(kind, phase, place, f"{kind.value} at {at_s}", at_s, requested_bytes=7)


def end(rank: int, report: RankReport | None = None, exit_code: int | None = 0, was_killed: bool = False) -> RankEnd:
    return RankEnd(rank, exit_code, was_killed, Phase.FORWARD, report)


def outcome(
    *ends: RankEnd, oom_kills: int = 0, silent: tuple[int, float] | None = None, is_shared_full: bool = False
) -> object:
    rank, silent_s = silent or (None, 0.0)
    ended = GroupEnded(1, ends, 0.1, 5.0, rank, silent_s)
    return classify(
        ended,
        STRATEGY,
        rank_count=len(ends),
        oom_kills=oom_kills,
        log_path="x.log",
        is_shared_full=is_shared_full,
    )


def test_figures_are_the_worst_ranks_and_the_step_is_the_requests() -> None:
    result = outcome(end(0, measured(middle_s=1.2)), end(1, measured(peak_device_bytes=120, alloc_retries=3)))
    assert isinstance(result, Measured)
    assert result.peak_device_bytes == 120
    assert result.peak_host_bytes == 20
    assert result.alloc_retries == 3
    assert result.step_s == pytest.approx(0.9 + 2 * 1.2 + 1.5)  # four micro-batches, the last with the optimizer's step
    assert result.tokens_per_s == pytest.approx(50 * 2 * 4 / result.step_s)
    assert result.update_s == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("accumulation", "first_s", "middle_s", "step_s"), [(1, None, None, 1.5), (2, 0.9, None, 2.4), (5, 0.9, 1.0, 5.4)]
)
def test_a_step_is_put_together_from_its_kinds_of_micro_batch(
    accumulation: int, first_s: float | None, middle_s: float | None, step_s: float
) -> None:
    report = measured(first_s=first_s, middle_s=middle_s)
    strategy = replace(STRATEGY, gradient_accumulation=accumulation)
    ended = GroupEnded(1, (end(0, report),), 0.1, 5.0)
    result = classify(ended, strategy, rank_count=1, oom_kills=0, log_path="x.log")
    assert isinstance(result, Measured)
    assert result.step_s == pytest.approx(step_s)


def test_a_probe_that_was_outpaced_is_so_on_all_its_ranks() -> None:
    early = replace(measured(), step_count=1, is_outpaced=True)
    result = outcome(end(0, early), end(1, early))
    assert isinstance(result, Measured)
    assert (result.is_outpaced, result.step_count) == (True, 1)
    assert result.tokens_per_s > 0


def test_what_tensors_held_is_the_worst_ranks_and_unknown_where_nobody_counted() -> None:
    counted = outcome(end(0, measured(peak_allocated_bytes=70)), end(1, measured(peak_allocated_bytes=80)))
    assert isinstance(counted, Measured)
    assert counted.peak_allocated_bytes == 80
    uncounted = outcome(end(0, measured()), end(1, measured()))
    assert isinstance(uncounted, Measured)
    assert uncounted.peak_allocated_bytes is None


def test_of_a_rehearsal_the_ranks_that_are_played_count_as_equally_fast() -> None:
    ended = GroupEnded(1, (end(0, measured(middle_s=1.0)),), 0.1, 5.0)
    result = classify(ended, STRATEGY, rank_count=64, oom_kills=0, log_path="x.log")
    assert isinstance(result, Measured)
    assert result.tokens_per_s == pytest.approx(50 * 64 * 4 / result.step_s)
    assert (result.peak_device_bytes, result.peak_host_bytes) == (100, 10)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("phase", list(Phase))
def test_out_of_memory_on_any_rank_in_any_phase(rank: int, phase: Phase) -> None:
    ends = [end(0, exit_code=-9, was_killed=True), end(1, exit_code=-9, was_killed=True)]
    ends[rank] = end(rank, failed(FailureKind.OUT_OF_MEMORY, 2.0, phase), exit_code=1)
    result = outcome(*ends)
    assert isinstance(result, OutOfMemory)
    assert (result.rank, result.phase, result.requested_bytes) == (rank, phase, 7)


def test_the_cause_wins_over_what_follows_from_it() -> None:
    """The neighbour of a rank that ran out of memory loses its connection, and may write first."""
    lost = end(0, failed(FailureKind.LOST_NEIGHBOUR, 1.9), exit_code=1)
    result = outcome(lost, end(1, failed(FailureKind.OUT_OF_MEMORY, 2.0), exit_code=1))
    assert isinstance(result, OutOfMemory)
    assert result.rank == 1


@pytest.mark.parametrize("kind", [FailureKind.CRASHED, FailureKind.LOST_NEIGHBOUR])
def test_a_rank_that_was_killed_is_the_cause_and_not_who_lost_it(kind: FailureKind) -> None:
    lost = end(0, failed(kind, 1.9), exit_code=1)
    result = outcome(lost, end(1, exit_code=-9), oom_kills=1)
    assert isinstance(result, OutOfMemory)
    assert (result.rank, result.place) == (1, Place.HOST)


def test_the_first_of_two_crashes_is_told() -> None:
    result = outcome(
        end(0, failed(FailureKind.CRASHED, 3.0), exit_code=1), end(1, failed(FailureKind.CRASHED, 2.0), exit_code=1)
    )
    assert isinstance(result, Crashed)
    assert (result.rank, result.why, result.log) == (1, "crashed at 2.0", "x.log")


def test_a_crash_is_told_and_not_who_lost_its_neighbour_by_it() -> None:
    lost = end(0, failed(FailureKind.LOST_NEIGHBOUR, 1.0), exit_code=1)
    result = outcome(lost, end(1, failed(FailureKind.CRASHED, 2.0), exit_code=1))
    assert isinstance(result, Crashed)
    assert result.rank == 1


def test_unsupported_says_why() -> None:
    assert outcome(end(0, failed(FailureKind.UNSUPPORTED, 1.0), exit_code=1)) == Unsupported(
        "unsupported at 1.0", 5.0, 0, Phase.BACKWARD
    )


def test_a_killed_rank_is_a_host_out_of_memory_only_if_the_cgroup_counted_a_kill() -> None:
    ends = (end(0, exit_code=-9), end(1, exit_code=-9, was_killed=True))
    result = outcome(*ends, oom_kills=1)
    assert isinstance(result, OutOfMemory)
    assert (result.rank, result.place) == (0, Place.HOST)
    assert outcome(*ends) == Killed(0, Phase.FORWARD, signal.SIGKILL, "x.log", 5.0)


def test_a_signal_is_named_and_the_rank_that_the_agent_killed_is_not_blamed() -> None:
    result = outcome(end(0, exit_code=-9, was_killed=True), end(1, exit_code=-11))
    assert result == SignalCrash(1, Phase.FORWARD, signal.SIGSEGV, "x.log", 5.0)


def test_a_rank_that_aborted_hides_neither_who_was_killed_nor_who_said_why() -> None:
    """gloo's threads and NCCL's watchdog abort a rank that has lost its neighbour."""
    aborted = end(0, exit_code=-6)
    assert outcome(aborted, end(1, exit_code=-9)) == Killed(1, Phase.FORWARD, signal.SIGKILL, "x.log", 5.0)
    said = outcome(aborted, end(1, failed(FailureKind.CRASHED, 1.0), exit_code=1))
    assert isinstance(said, Crashed)
    assert said.why == "crashed at 1.0"
    lost = outcome(aborted, end(1, failed(FailureKind.LOST_NEIGHBOUR, 1.0), exit_code=1))
    assert isinstance(lost, SignalCrash)


@pytest.mark.parametrize("exit_code", [5, 0])
def test_who_ended_without_a_word_is_told_and_not_who_lost_it(exit_code: int) -> None:
    result = outcome(end(0, failed(FailureKind.LOST_NEIGHBOUR, 1.0), exit_code=1), end(1, exit_code=exit_code))
    assert isinstance(result, Crashed)
    assert (result.rank, result.exit_code) == (1, exit_code)


def test_who_was_silent_has_measured_nothing_though_it_came_to_its_end_when_it_was_woken() -> None:
    result = outcome(end(0, measured()), end(1, measured()), silent=(1, 8.0))
    assert isinstance(result, TimedOut)
    assert (result.rank, result.after_s) == (1, 8.0)


def test_a_page_of_shared_memory_that_was_not_there_is_told_by_what_is_left_of_it() -> None:
    """SIGBUS; what else was killed meanwhile does not count."""
    bus = (end(0, exit_code=-7),)
    assert outcome(*bus, oom_kills=1) == SignalCrash(0, Phase.FORWARD, signal.SIGBUS, "x.log", 5.0)
    full = outcome(*bus, is_shared_full=True)
    assert isinstance(full, OutOfMemory)
    assert (full.rank, full.place) == (0, Place.SHARED)
    assert isinstance(outcome(end(0, exit_code=-11), is_shared_full=True), SignalCrash)


def test_a_rank_without_room_for_its_report_found_the_disk_full() -> None:
    lost = end(1, failed(FailureKind.LOST_NEIGHBOUR, 1.0), exit_code=1)
    result = outcome(end(0, exit_code=NO_ROOM_EXIT), lost)
    assert isinstance(result, DiskFull)
    assert (result.rank, result.phase) == (0, Phase.FORWARD)


@pytest.mark.parametrize(
    ("kind", "outcome_kind"),
    [
        (FailureKind.DISK_FULL, DiskFull),
        (FailureKind.DEVICE_LOST, DeviceLost),
        (FailureKind.NOT_FINITE, NotFinite),
        (FailureKind.USER_FAULT, UserFault),
    ],
)
def test_what_a_rank_says_of_itself_has_its_own_type(kind: FailureKind, outcome_kind: type[DiskFull]) -> None:
    lost = end(0, failed(FailureKind.LOST_NEIGHBOUR, 1.0), exit_code=1)
    result = outcome(lost, end(1, failed(kind, 2.0), exit_code=1), end(2, exit_code=-6))
    assert result == outcome_kind(1, Phase.BACKWARD, f"{kind.value} at 2.0", 5.0)


def test_a_crash_of_our_own_code_is_told_as_such() -> None:
    result = outcome(end(0, replace(failed(FailureKind.CRASHED, 1.0), is_ours=True), exit_code=1))
    assert isinstance(result, Crashed)
    assert result.is_ours


def test_silence_is_a_time_out_and_not_a_lack_of_memory() -> None:
    killed = [end(rank, exit_code=-9, was_killed=True) for rank in (0, 1)]
    assert outcome(*killed, silent=(1, 60.0)) == TimedOut(1, Phase.FORWARD, 60.0, 5.0)


def test_a_probe_that_went_on_beyond_its_limit_timed_out_and_was_not_silent() -> None:
    ended = GroupEnded(1, (end(0, exit_code=-9, was_killed=True),), 0.1, 5.2, time_limit_s=5.0)
    result = classify(ended, STRATEGY, rank_count=1, oom_kills=0, log_path="x.log")
    assert result == TimedOut(0, Phase.FORWARD, 5.0, 5.2, was_silent=False)


def test_one_measured_rank_does_not_make_a_measurement() -> None:
    result = outcome(end(0, measured()), end(1, exit_code=3))
    assert isinstance(result, Crashed)
    assert "exit code 3" in result.why
