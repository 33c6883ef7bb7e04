"""A search that begins before all rows are counted: what it takes for granted, and what becomes of it then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.event import Chosen, DataRead, Note, TrialEnded
from autofit.domain.hardware import DeviceKind
from autofit.domain.workload import RowCounts
from autofit.probing.protocol import ProbeSpec
from tests.app.test_train import REQUEST, Stage, devices, strategies, untouchable
from tests.builders import make_host

SEQ = REQUEST.sequence_length
LONG = (20, 40, SEQ)
SHORT = (20, 40, 48)  # the longest is padded to 48 on a GPU


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Two GPUs with cores to spare, and rows of which a sample foretells that some are as long as may be."""
    stage = Stage(tmp_path)
    stage.hardware = devices(kind=DeviceKind.CUDA)
    stage.machine.lengths_tokens = LONG
    stage.machine.foreseen_tokens = SEQ
    return stage


def widths(stage: Stage) -> list[int]:
    """The width of the worst batch of each probe, in their order."""
    return [spec.worst[-1].padded_tokens for spec in stage.machine.specs]


def test_rows_that_are_as_long_as_they_were_taken_to_be_leave_all_trials_as_they_are(
    stage: Stage, tmp_path: Path
) -> None:
    stage.machine.probes_until_counted = 3
    stage.train()
    counted_first = Stage(tmp_path / "counted first")
    counted_first.hardware, counted_first.machine.lengths_tokens = stage.hardware, LONG
    counted_first.train()
    assert strategies(stage) == strategies(counted_first)
    assert [told.profile.is_foreseen for told in stage.told(DataRead)] == [True, False]
    assert len(stage.told(Chosen)) == 1
    profile = stage.folder.read_profile()
    assert profile is not None
    assert not profile.is_foreseen
    assert not list(stage.folder.root.glob("earlier/*"))


def test_rows_that_are_shorter_have_the_search_begin_anew_with_their_true_width(stage: Stage) -> None:
    stage.machine.lengths_tokens = SHORT
    stage.machine.probes_until_counted = 3
    stage.train()
    before = [width for width in widths(stage) if width == SEQ]
    assert 0 < len(before) < len(widths(stage))
    assert widths(stage) == [*before, *[48] * (len(widths(stage)) - len(before))]
    kept = (stage.folder.root / "earlier/1/trials.jsonl").read_text().splitlines()
    assert len(kept) == len(before)
    assert len(stage.folder.read_trials()) == len(widths(stage)) - len(before)
    assert any("the search begins anew" in note.text for note in stage.told(Note))
    assert len(stage.told(Chosen)) == 1


def test_what_is_chosen_before_the_rows_are_counted_waits_for_them(stage: Stage) -> None:
    stage.machine.lengths_tokens = SHORT
    stage.machine.probes_until_counted = 10**6
    stage.train()
    assert {SEQ, 48} == set(widths(stage))
    assert len(stage.told(Chosen)) == 1
    assert all(trial.outcome for trial in stage.folder.read_trials())


def test_what_does_not_fit_at_the_width_of_seq_is_not_given_up(stage: Stage) -> None:
    """Nothing fits as wide as --seq: that says nothing of rows that are shorter."""
    stage.machine.lengths_tokens = SHORT
    stage.machine.probes_until_counted = 10**6
    enough_bytes = stage.machine.capacity_bytes

    def shrink_rows(asked: object) -> None:
        if isinstance(asked, ProbeSpec):
            stage.machine.capacity_bytes = enough_bytes if asked.worst[-1].padded_tokens < SEQ else 1

    stage.machine.on_ask = shrink_rows
    stage.train()
    assert stage.folder.read_result() is not None


def test_rows_that_are_refused_while_probes_run_end_the_search(stage: Stage) -> None:
    stage.machine.probes_until_counted = 3
    stage.machine.refuses_rows = True
    stage.training.run = untouchable  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="row 7 is broken"):
        stage.train()
    assert 0 < len(stage.machine.specs) <= 4
    assert stage.machine.running_count == 0
    assert stage.folder.read_choice() is None


def test_too_many_lost_rows_end_the_search_when_they_are_counted(stage: Stage) -> None:
    stage.machine.probes_until_counted = 3
    stage.machine.rows = RowCounts(100, dropped=30, enough_tokens=96)
    with pytest.raises(UsageError, match="30 of 100 rows would not be trained on"):
        stage.train()
    assert 0 < len(stage.machine.specs) <= 4
    assert stage.machine.running_count == 0


@pytest.mark.parametrize("lengths", [SHORT, LONG])
def test_an_interruption_before_the_rows_are_counted_is_gone_on_from(stage: Stage, lengths: tuple[int, ...]) -> None:
    """Trials of another width count for nothing then; those of the same one for all that they say."""
    stage.machine.lengths_tokens = lengths
    stage.machine.probes_until_counted = 10**6
    stage.interrupt_at_probe(4)
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    kept = strategies(stage)
    assert len(kept) == 3
    stage.go_on()
    stage.machine.foreseen_tokens = None  # cached: they are counted at once
    stage.machine.specs.clear()
    stage.train()
    assert set(widths(stage)) == {lengths[-1]}
    remembered = [told.trial.strategy for told in stage.told(TrialEnded) if told.is_remembered]
    assert remembered == (kept if lengths is LONG else [])


def test_the_trials_until_then_are_remembered_as_of_the_rows_that_there_are(stage: Stage) -> None:
    stage.machine.probes_until_counted = 3
    stage.train()
    again = Stage(stage.root)
    again.hardware, again.machine.lengths_tokens = stage.hardware, LONG
    again.folder = type(stage.folder)(stage.root / "another run")
    again.train()
    assert len(again.machine.specs) < len(stage.machine.specs)


@pytest.mark.parametrize(
    "hardware",
    [devices(), replace(devices(kind=DeviceKind.CUDA), nodes=(replace(
        devices(kind=DeviceKind.CUDA).nodes[0], host=make_host(core_count=4)),))],
    ids=["ranks on a CPU", "no core to spare"],
)  # fmt: skip
def test_without_cores_to_spare_the_rows_are_counted_first(stage: Stage, hardware: object) -> None:
    stage.hardware = hardware  # type: ignore[assignment]
    stage.train()
    assert [told.profile.is_foreseen for told in stage.told(DataRead)] == [False]
