"""From what the ranks left behind to the end of the training, or to what kept it from one."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.divergence import Stopped, Symptom
from autofit.domain.event import TrainingEnded
from autofit.domain.outcome import (
    Crashed,
    Diverged,
    Killed,
    OutOfMemory,
    Phase,
    Place,
    SignalCrash,
    TimedOut,
    Unsupported,
)
from autofit.domain.run_end import RunEnd
from autofit.probing.evidence import Evidence, launcher_signal
from autofit.probing.protocol import (
    FailureKind,
    RankDiverged,
    RankEnd,
    RankFailed,
    RankReport,
    RankTrained,
    read_report,
    to_line,
)
from autofit.running.rank_watch import read_reports
from autofit.running.result import run_end

LOG = "/run/logs/training.log"


def trained(device_bytes: int = 5, host_bytes: int = 3, **changes: float) -> RankTrained:
    return RankTrained(device_bytes, host_bytes, 8, 2.5, 1.5, changes.get("tokens_per_s", 100.0))


def failed(kind: FailureKind, at_s: float, *, place: Place = Place.DEVICE, requested: int | None = None) -> RankFailed:
    return RankFailed(kind, Phase.BACKWARD, place, f"{kind.value} says", at_s, requested_bytes=requested)


def dead(rank: int, *, was_killed: bool = False) -> RankEnd:
    """As the launcher leaves it: nobody saw its exit code."""
    return RankEnd(rank, None, was_killed, Phase.FORWARD, None)


def ended(
    reports: dict[int, RankReport],
    *wordless: RankEnd,
    rank_count: int = 2,
    exit_code: int = 1,
    oom_kills: int = 0,
    timed_out: TimedOut | None = None,
) -> RunEnd:
    told = [RankEnd(rank, None, False, Phase.SAVE, report) for rank, report in reports.items()]
    evidence = Evidence((*told, *wordless), oom_kills, LOG, 9.0, exit_code, timed_out)
    return run_end(evidence, rank_count=rank_count, model_path=Path("/run/model"))


def test_the_figures_are_of_the_fullest_device_of_all_the_host_and_of_the_first_rank() -> None:
    result = ended({1: trained(7, 3, tokens_per_s=90.0), 0: trained(5, 4)}, exit_code=0)
    assert result == TrainingEnded("/run/model", None, 8, 2.5, 1.5, 100.0, 7, 7, 9.0)


def test_what_is_told_of_the_end_is_the_first_ranks() -> None:
    told = replace(trained(), eval_loss=2.5, skipped_steps=3, trouble="the loss has exploded since step 7")
    result = ended({0: told, 1: trained()}, exit_code=0)
    assert isinstance(result, TrainingEnded)
    assert (result.eval_loss, result.skipped_steps, result.trouble) == (2.5, 3, "the loss has exploded since step 7")


@pytest.mark.parametrize("place", list(Place))
def test_out_of_memory_has_its_rank_its_phase_its_memory_and_how_much(place: Place) -> None:
    report = failed(FailureKind.OUT_OF_MEMORY, 1.0, place=place, requested=7)
    found = ended({0: trained(), 1: report})
    assert found == OutOfMemory(1, Phase.BACKWARD, place, "out_of_memory says", requested_bytes=7, total_s=9.0)


def test_a_training_that_diverged_says_how_whatever_its_other_ranks_say() -> None:
    """Its ranks end together; one that noticed it late only lost its neighbour."""
    divergence = Stopped(Symptom.LOSS_EXPLODED, 7, "/run/checkpoints/checkpoint-4")
    diverged = RankDiverged(divergence, Phase.STEP, 2.0)
    found = ended({0: failed(FailureKind.CRASHED, 1.0), 1: read_report(to_line(diverged))})
    assert found == Diverged(1, Phase.STEP, divergence, 9.0)


def test_of_several_failures_the_cause_is_told() -> None:
    reports: dict[int, RankReport] = {
        0: failed(FailureKind.CRASHED, 1.0),
        1: failed(FailureKind.OUT_OF_MEMORY, 2.0),
        2: failed(FailureKind.CRASHED, 0.5),
        3: failed(FailureKind.UNSUPPORTED, 3.0),
    }
    assert isinstance(ended(reports, rank_count=4), OutOfMemory)
    del reports[1]
    assert ended(reports, rank_count=4) == Unsupported("unsupported says", 9.0, 3, Phase.BACKWARD)
    del reports[3]
    assert ended(reports, rank_count=4) == Crashed(2, Phase.BACKWARD, "crashed says", LOG, 9.0)


@pytest.mark.parametrize("exit_code", [247, 137, -9], ids=["launch.py", "as a shell tells it", "the launcher itself"])
def test_a_rank_that_was_killed_ran_out_of_host_memory_only_if_the_cgroup_counted_it(exit_code: int) -> None:
    ends = (dead(0, was_killed=True), dead(1))
    found = ended({}, *ends, exit_code=exit_code, oom_kills=1)
    assert isinstance(found, OutOfMemory)
    assert (found.rank, found.phase, found.place) == (1, Phase.FORWARD, Place.HOST)
    assert ended({}, *ends, exit_code=exit_code) == Killed(1, Phase.FORWARD, signal.SIGKILL, LOG, 9.0)


@pytest.mark.parametrize("exit_code", [245, 139, -11], ids=["launch.py", "as a shell tells it", "the launcher itself"])
def test_a_rank_that_crashed_by_a_signal_says_by_which(exit_code: int) -> None:
    ends = (dead(0, was_killed=True), dead(1))
    found = ended({}, *ends, exit_code=exit_code, oom_kills=1)
    assert found == SignalCrash(1, Phase.FORWARD, signal.SIGSEGV, LOG, 9.0)


@pytest.mark.parametrize("exit_code", [1, 2, 128, 190, 255, None])
def test_what_is_no_signal_stays_an_exit_code(exit_code: int | None) -> None:
    """ssh leaves with 255 when it cannot reach a host."""
    assert launcher_signal(exit_code) is None


def test_who_lost_a_rank_that_was_killed_only_follows_from_it() -> None:
    """The launcher may come to look at the one that lost it first, and leave with that one's exit code."""
    killed, lost = RankEnd(1, -9, False, Phase.FORWARD, None), failed(FailureKind.CRASHED, 1.0)
    found = ended({0: lost}, killed, exit_code=1, oom_kills=1)
    assert isinstance(found, OutOfMemory)
    assert (found.rank, found.phase, found.place) == (1, Phase.FORWARD, Place.HOST)
    full = ended({0: failed(FailureKind.OUT_OF_MEMORY, 1.0)}, killed)
    assert isinstance(full, OutOfMemory)
    assert full.place is Place.DEVICE
    assert ended({0: lost}, replace(killed, was_killed=True)) == Crashed(0, Phase.BACKWARD, "crashed says", LOG, 9.0)


@pytest.mark.parametrize("exit_code", [1, 3, 249, 139], ids=["its own", "another", "SIGBUS", "SIGSEGV"])
def test_what_else_the_kernel_killed_meanwhile_is_not_what_went_wrong(exit_code: int) -> None:
    assert isinstance(ended({}, dead(0), exit_code=exit_code, oom_kills=1), (Crashed, SignalCrash))


@pytest.mark.parametrize(
    ("reports", "exit_code"),
    [({}, 0), ({0: trained()}, 0), ({0: trained(), 1: trained()}, 1)],
    ids=["none at all", "one missing", "all there but the launcher failed"],
)
def test_a_training_without_every_report_and_a_good_end_has_failed(
    reports: dict[int, RankReport], exit_code: int
) -> None:
    """Whose fault it was nobody saw."""
    found = ended(reports, exit_code=exit_code)
    assert isinstance(found, Crashed)
    assert (found.rank, found.exit_code, found.log) == (None, exit_code, LOG)
    assert ended(reports, exit_code=-9) == Killed(None, Phase.START, signal.SIGKILL, LOG, 9.0)


def test_silence_is_what_ended_it_unless_a_rank_says_better() -> None:
    silence = TimedOut(0, Phase.STEP, 1800.0)
    assert ended({}, dead(0), dead(1), timed_out=silence) == replace(silence, total_s=9.0)
    assert isinstance(ended({1: failed(FailureKind.OUT_OF_MEMORY, 1.0)}, dead(0), timed_out=silence), OutOfMemory)


def test_reports_are_read_by_rank_and_those_of_more_ranks_are_passed_over(tmp_path: Path) -> None:
    reports = {0: trained(), 2: failed(FailureKind.CRASHED, 1.0), 3: trained()}
    for rank, report in reports.items():
        (tmp_path / f"rank{rank}.json").write_bytes(to_line(report))
    (tmp_path / ".rank1.json.5eed.tmp").write_bytes(b'{"cut')
    assert read_reports(tmp_path, 3) == {0: reports[0], 2: reports[2]}
