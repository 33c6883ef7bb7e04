"""From the ranks' reports to the end of the training, or to the sentence that says why it has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.errors import TrainingFailed
from autofit.domain.event import TrainingEnded
from autofit.domain.outcome import Phase, Place
from autofit.probing.protocol import FailureKind, RankFailed, RankReport, RankTrained, to_line
from autofit.running.result import read_reports, training_ended

LOG = Path("/run/logs/training.log")


def trained(device_bytes: int = 5, host_bytes: int = 3, **changes: float) -> RankTrained:
    return RankTrained(device_bytes, host_bytes, 8, 2.5, 1.5, changes.get("tokens_per_s", 100.0))


def failed(kind: FailureKind, at_s: float, *, place: Place = Place.DEVICE, requested: int | None = None) -> RankFailed:
    return RankFailed(kind, Phase.BACKWARD, place, f"{kind.value} says", at_s, requested_bytes=requested)


def ended(reports: dict[int, RankReport], *, rank_count: int = 2, exit_code: int = 0) -> TrainingEnded:
    return training_ended(
        reports, rank_count=rank_count, exit_code=exit_code, model_path=Path("/run/model"), log_path=LOG, total_s=9.0
    )


def why(reports: dict[int, RankReport], *, rank_count: int = 2, exit_code: int = 1) -> str:
    with pytest.raises(TrainingFailed) as caught:
        ended(reports, rank_count=rank_count, exit_code=exit_code)
    return str(caught.value)


def test_the_figures_are_of_the_fullest_device_of_all_the_host_and_of_the_first_rank() -> None:
    result = ended({1: trained(7, 3, tokens_per_s=90.0), 0: trained(5, 4)})
    assert result == TrainingEnded("/run/model", None, 8, 2.5, 1.5, 100.0, 7, 7, 9.0)


def test_out_of_memory_says_which_memory_where_and_how_much() -> None:
    text = why({0: trained(), 1: failed(FailureKind.OUT_OF_MEMORY, 1.0, requested=1_500_000_000)})
    assert text.startswith("the training failed in backward on rank 1: out of device memory (asked for 1.5 GB)\n")
    assert str(LOG) in text
    assert "last checkpoint" not in text, "the same again would run out of memory again"
    assert "a smaller --micro-batch" in text
    hosts = why({0: failed(FailureKind.OUT_OF_MEMORY, 1.0, place=Place.HOST)})
    assert "rank 0: out of host memory\n" in hosts


def test_a_training_that_diverged_says_so_in_its_own_words() -> None:
    """Its ranks end together; one that noticed it late only lost its neighbour."""
    reports: dict[int, RankReport] = {0: failed(FailureKind.CRASHED, 1.0), 1: failed(FailureKind.DIVERGED, 2.0)}
    assert why(reports) == f"diverged says\nits log is {LOG}"


def test_what_is_told_of_the_end_is_the_first_ranks() -> None:
    told = replace(trained(), eval_loss=2.5, skipped_steps=3, trouble="the loss has exploded since step 7")
    result = ended({0: told, 1: trained()})
    assert (result.eval_loss, result.skipped_steps, result.trouble) == (2.5, 3, "the loss has exploded since step 7")


def test_of_several_failures_the_cause_is_told() -> None:
    reports: dict[int, RankReport] = {
        0: failed(FailureKind.CRASHED, 1.0),
        1: failed(FailureKind.OUT_OF_MEMORY, 2.0),
        2: failed(FailureKind.CRASHED, 0.5),
    }
    assert "on rank 1: out of device memory" in why(reports, rank_count=3)
    del reports[1]
    assert "on rank 2: crashed says" in why(reports, rank_count=3)


@pytest.mark.parametrize(
    ("reports", "exit_code"),
    [({}, 0), ({}, -9), ({0: trained()}, 0), ({0: trained(), 1: trained()}, 1)],
    ids=["none at all", "killed", "one missing", "all there but the launcher failed"],
)
def test_a_training_without_every_report_and_a_good_end_has_failed(
    reports: dict[int, RankReport], exit_code: int
) -> None:
    text = why(reports, exit_code=exit_code)
    assert f"exit code {exit_code}" in text
    assert str(LOG) in text


def test_reports_are_read_by_rank_and_those_of_more_ranks_are_passed_over(tmp_path: Path) -> None:
    reports = {0: trained(), 2: failed(FailureKind.CRASHED, 1.0), 3: trained()}
    for rank, report in reports.items():
        (tmp_path / f"rank{rank}.json").write_bytes(to_line(report))
    (tmp_path / ".rank1.json.5eed.tmp").write_bytes(b'{"cut')
    assert read_reports(tmp_path, 3) == {0: reports[0], 2: reports[2]}
