"""A training that goes on on another number of ranks; told by a simulated machine."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autofit.domain.errors import TrainingFailed, UsageError
from autofit.domain.event import Note, TrainingProgress, TrainingStarted
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.request import Training
from autofit.domain.run_end import RunEnd
from autofit.domain.script import LoadedCheckpoint
from autofit.process import universal_checkpoint
from autofit.runs.run_folder import RunFolder
from tests.app.test_train import REQUEST, Stage, devices
from tests.builders import GB
from tests.fake_checkpoint import write_checkpoint

PINNED = replace(REQUEST, pins=Pins(method=Method.FULL, zero_stage=2))


class MovingStage(Stage):
    """Trained for the first time on two ranks; a conversion leaves what DeepSpeed's does, unless `is_failing`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.machine.capacity_bytes = GB
        self.tools["make_universal"] = self.make_universal
        self.is_failing = False
        self.stage_of_checkpoint = 2
        self.converted: list[LoadedCheckpoint] = []
        self.resumed: list[Path | None] = []  # what ranks that are told nothing else would load
        self.run_before, self.training.run = self.training.run, self.run  # type: ignore[method-assign]

    def make_universal(self, checkpoint: LoadedCheckpoint, *, log_path: Path, place: Path, tell: Any) -> bool:
        self.converted.append(checkpoint)
        (place / "global_step4_universal").mkdir()
        return not self.is_failing

    def run(self, hardware: Any, files: Any, log_path: Path, show: Any, **rest: Any) -> RunEnd:
        start = self.folder.last_checkpoint or self.folder.read_request().training.resume  # type: ignore[union-attr]
        self.resumed.append(None if start is None else universal_checkpoint.found(files.checkpoints, Path(start)))
        return self.run_before(hardware, files, log_path, lambda event: None, **rest)

    def begin(self, request: Any = PINNED) -> None:
        """A training on two ranks that was interrupted after its first checkpoint."""
        self.training.interrupted_by = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            self.train(request)
        shutil.rmtree(self.checkpoint)
        write_checkpoint(self.checkpoint, zero_stage=self.stage_of_checkpoint)
        self.go_on()

    def notes(self) -> str:
        return "\n".join(note.text for note in self.told(Note))


@pytest.fixture
def stage(tmp_path: Path) -> MovingStage:
    return MovingStage(tmp_path)


@pytest.mark.parametrize("ranks", [None, 1, 4])
def test_a_run_goes_on_from_its_checkpoint_on_the_ranks_that_there_are_now(
    stage: MovingStage, ranks: int | None
) -> None:
    stage.begin()
    stage.hardware = devices(ranks or 1)
    stage.train(replace(PINNED, ranks=ranks))
    assert [(one.path, one.rank_count) for one in stage.converted] == [(str(stage.checkpoint / "global_step4"), 2)]
    assert stage.resumed[-1] == stage.folder.checkpoints / "universal-checkpoint-4"
    assert [told.resumed_from for told in stage.told(TrainingStarted)] == [str(stage.checkpoint)]
    choice, hardware = stage.folder.read_choice(), stage.folder.read_hardware()
    assert choice is not None
    assert hardware is not None
    count = hardware.rank_count
    assert count == (ranks or 1)
    strategy = choice.strategy
    assert strategy.micro_batch * strategy.gradient_accumulation * count == REQUEST.global_batch
    assert strategy.rung.zero_stage == 2
    assert (stage.folder.root / "earlier/1/choice.json").is_file()
    assert f"2 ranks, now {count}" in stage.notes()
    request = stage.folder.read_request()
    assert request == replace(PINNED, ranks=ranks)


def test_what_was_converted_goes_with_the_first_checkpoint_of_its_own(stage: MovingStage) -> None:
    stage.begin()
    stage.hardware = devices(1)

    def run(hardware: Any, files: Any, log_path: Path, show: Any, **rest: Any) -> RunEnd:
        made = stage.folder.checkpoints / "universal-checkpoint-4"
        assert made.is_dir()
        show(TrainingProgress(5, 8, 2.0, 100.0, GB, 1.0))
        assert made.is_dir()
        write_checkpoint(stage.folder.checkpoints / "checkpoint-6", ranks=1)
        show(TrainingProgress(6, 8, 2.0, 100.0, GB, 1.0, saved_step=6))
        assert not made.exists()
        return stage.run_before(hardware, files, log_path, show, **rest)

    stage.training.run = run  # type: ignore[method-assign]
    stage.train(PINNED)
    assert stage.folder.read_result() is not None


def test_a_search_for_other_ranks_that_was_interrupted_keeps_to_the_checkpoint(stage: MovingStage) -> None:
    free = replace(REQUEST, pins=Pins(method=Method.FULL))
    stage.begin(free)
    stage.hardware = devices(4)
    stage.machine.specs.clear()
    stage.interrupt_at_probe(1)
    with pytest.raises(KeyboardInterrupt):
        stage.train(free)
    assert stage.folder.read_choice() is None
    stage.go_on()
    stage.train(free)
    assert {spec.job.strategy.rung.zero_stage for spec in stage.machine.specs} == {2}
    assert len(stage.converted) == 1


def test_whole_optimizers_need_no_conversion(stage: MovingStage) -> None:
    stage.stage_of_checkpoint = 0
    request = replace(PINNED, pins=PINNED.pins.but(zero_stage=0))
    stage.begin(request)
    stage.hardware = devices(1)
    stage.train(request)
    assert stage.converted == []
    assert stage.folder.read_result() is not None


def test_zero_3_stays_on_its_ranks(stage: MovingStage) -> None:
    stage.stage_of_checkpoint = 3
    request = replace(PINNED, pins=PINNED.pins.but(zero_stage=3))
    stage.begin(request)
    before = stage.files()
    stage.hardware = devices(1)
    with pytest.raises(UsageError, match=r"holds another training \(2 × cpu.* there, 1 × cpu"):
        stage.train(request)
    assert stage.files() == before


def test_another_request_is_another_training_on_any_machine(stage: MovingStage) -> None:
    stage.begin()
    stage.hardware = devices(1)
    with pytest.raises(UsageError, match=r"holds another training \(--seq \(64, now 32\)"):
        stage.train(replace(PINNED, sequence_length=32))


def test_ranks_that_cannot_share_the_batch_are_refused(stage: MovingStage) -> None:
    stage.begin()
    before = stage.files()
    stage.hardware = devices(3)
    with pytest.raises(UsageError, match="a global batch of 8 cannot be shared by 3 ranks"):
        stage.train(PINNED)
    assert stage.files() == before


def test_a_conversion_that_fails_leaves_everything_as_it_was(stage: MovingStage) -> None:
    stage.begin()
    stage.is_failing = True
    stage.hardware = devices(1)
    with pytest.raises(TrainingFailed, match=r"could not be made universal; the log is .*On 2 ranks it can"):
        stage.train(PINNED)
    assert [path.name for path in stage.folder.checkpoints.iterdir()] == ["checkpoint-4"]
    stage.hardware = devices(2)
    stage.train(PINNED)
    assert stage.resumed[-1] is None
    assert stage.folder.read_result() is not None


def test_a_disk_without_room_is_said_before_anything_is_converted(
    stage: MovingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.begin()
    (stage.checkpoint / "global_step4/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(bytes(1000))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9000, 9000, 0))
    monkeypatch.setattr(RunFolder, "last_checkpoint", property(lambda folder: str(stage.checkpoint)))
    stage.hardware = devices(1)
    with pytest.raises(UsageError, match=r"takes 2\.5 kB .* make room there, or go on with --ranks 2"):
        stage.train(PINNED)
    assert stage.converted == []


def test_a_checkpoint_that_is_named_goes_on_on_the_ranks_that_are_asked_for(stage: MovingStage, tmp_path: Path) -> None:
    named = write_checkpoint(tmp_path / "elsewhere/checkpoint-2")
    before = sorted(named.rglob("*"))
    stage.hardware = devices(4)
    stage.train(replace(PINNED, ranks=4, training=Training(resume=str(named))))
    assert [one.rank_count for one in stage.converted] == [2]
    assert stage.resumed == [stage.folder.checkpoints / "universal-checkpoint-2"]
    assert sorted(named.rglob("*")) == before
