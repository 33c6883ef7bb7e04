"""A full run that runs out of memory goes on by what needs less; told by a simulated machine."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from autofit.domain.errors import TrainingFailed
from autofit.domain.event import Note, TrainingEnded, TrainingProgress, TrainingStarted
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import OutOfMemory, Phase, Place
from autofit.domain.request import SearchOptions
from autofit.domain.run_end import RunEnd
from autofit.domain.strategy import Strategy
from autofit.report.choice_text import left_texts
from autofit.running.training_command import TrainingFiles
from tests.app.test_train import OPTIONS, REQUEST, Stage
from tests.builders import GB
from tests.fake_checkpoint import write_checkpoint

PINNED = replace(REQUEST, pins=Pins(method=Method.FULL, zero_stage=2, gradient_checkpointing=GradientCheckpointing.OFF))


def out_of_memory(place: Place = Place.DEVICE) -> OutOfMemory:
    return OutOfMemory(1, Phase.BACKWARD, place, "can't allocate memory")


@dataclass
class HungryTraining:
    """Saves after step 4 and comes to the end of step 6, where what it runs by is too large."""

    stage: Stage
    is_too_large: Callable[[Strategy], bool]
    saves: bool = True
    end: OutOfMemory = field(default_factory=out_of_memory)
    ran: list[Strategy] = field(default_factory=list)
    configs: list[Any] = field(default_factory=list)

    def run(
        self,
        hardware: Hardware,
        files: TrainingFiles,
        log_path: Path,
        show: Callable[[TrainingProgress], None],
        **_: Any,
    ) -> RunEnd:
        choice = self.stage.folder.read_choice()
        assert choice is not None
        self.ran.append(choice.strategy)
        self.configs.append(files.deepspeed_config and files.deepspeed_config.read_text())
        for step in (0, 4, 6):
            show(TrainingProgress(step, 8, 2.0, 100.0, GB, 1.0))
            if step == 4 and self.saves:
                write_checkpoint(files.checkpoints / "checkpoint-4")
        if self.is_too_large(choice.strategy):
            return self.end
        files.model.mkdir(exist_ok=True)
        (files.model / "model.safetensors").touch()
        return TrainingEnded(str(files.model), None, 8, 2.5, 1.5, 100.0, GB, GB, 1.0)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.machine.capacity_bytes = GB
    return stage


def hungry(stage: Stage, is_too_large: Callable[[Strategy], bool], **settings: Any) -> HungryTraining:
    training = HungryTraining(stage, is_too_large, **settings)
    stage.training = training  # type: ignore[assignment]
    return training


def notes(stage: Stage) -> str:
    return "\n".join(note.text for note in stage.told(Note))


@pytest.mark.parametrize("saves", [True, False], ids=["saved", "not-saved"])
def test_it_goes_on_by_half_the_micro_batch(stage: Stage, saves: bool) -> None:
    training = hungry(stage, lambda strategy: strategy.micro_batch > 2, saves=saves)
    stage.train(PINNED)
    first, second = training.ran
    assert (first.micro_batch, second.micro_batch) == (4, 2)
    assert second == replace(first, micro_batch=2, gradient_accumulation=2 * first.gradient_accumulation)
    resumed = [str(stage.checkpoint) if saves else None]
    assert [told.resumed_from for told in stage.told(TrainingStarted)] == [None, *resumed]
    choice = stage.folder.read_choice()
    assert choice is not None
    assert choice.strategy == second
    assert choice.why == "step 7 ran out of device memory on rank 1; half the micro-batch"
    assert left_texts(choice) == (f"{first} until step 7 ran out of device memory on rank 1",)
    where = "from step 4" if saves else "from the beginning"
    assert f"step 7 ran out of device memory on rank 1: it goes on {where} with half the micro-batch" in notes(stage)
    assert '"train_micro_batch_size_per_gpu": 2' in training.configs[1]
    assert "until step 7 ran out" in stage.folder.report.read_text()
    assert stage.folder.read_result() is not None


def test_it_goes_down_further_and_stays_there_when_it_is_killed(stage: Stage) -> None:
    request = replace(REQUEST, pins=Pins(method=Method.FULL, zero_stage=2))
    training = hungry(stage, lambda strategy: strategy.rung.gradient_checkpointing is not GradientCheckpointing.ON)
    run = training.run

    def killed(*asked: Any, **named: Any) -> RunEnd:
        if len(training.ran) == 2:
            raise KeyboardInterrupt
        return run(*asked, **named)

    training.run = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stage.train(request)
    choice = stage.folder.read_choice()
    assert choice is not None
    assert len(choice.step_downs) == 2
    training.run = run  # type: ignore[method-assign]
    stage.train(request)
    assert training.ran[2] == choice.strategy
    assert len(set(training.ran)) == len(training.ran)
    assert training.ran[-1].rung.gradient_checkpointing is GradientCheckpointing.ON
    assert stage.folder.read_result() is not None


def test_a_configuration_that_is_gone_is_written_anew(stage: Stage) -> None:
    """As it is where a step down was killed halfway."""
    training = hungry(stage, lambda strategy: True)
    with pytest.raises(TrainingFailed):
        stage.train(PINNED, replace(OPTIONS, may_step_down=False))
    written = stage.folder.ds_config.read_text()
    stage.folder.ds_config.unlink()
    training.is_too_large = lambda strategy: False
    stage.train(PINNED)
    assert stage.folder.ds_config.read_text() == written == training.configs[-1]


def test_nobody_who_wants_none_is_stepped_down(stage: Stage) -> None:
    training = hungry(stage, lambda strategy: True)
    with pytest.raises(TrainingFailed, match="out of device memory"):
        stage.train(PINNED, SearchOptions(tolerance=0.01, may_step_down=False))
    assert len(training.ran) == 1


def test_where_nothing_is_left_the_words_that_start_anew_are_told(stage: Stage) -> None:
    training = hungry(stage, lambda strategy: True)
    pins = PINNED.pins.but(micro_batch=4, offload=Offload.NONE)
    (stage.root / "run-2").mkdir()
    with pytest.raises(TrainingFailed, match="the micro-batch is 4, which is pinned; --gradient-check") as failed:
        stage.train(replace(PINNED, pins=pins))
    assert len(training.ran) == 1
    assert shlex.join(failed.value.anew) == f"--output-dir {stage.root / 'run-3'} --micro-batch 2"


def test_each_is_tried_once_until_nothing_is_left(stage: Stage) -> None:
    training = hungry(stage, lambda strategy: True)
    with pytest.raises(TrainingFailed, match="no rung is left that needs less: the micro-batch is 1") as failed:
        stage.train(replace(REQUEST, pins=Pins(method=Method.FULL, zero_stage=1)))
    assert "a smaller --micro-batch" not in str(failed.value)
    assert len(set(training.ran)) == len(training.ran) > 2
    assert {strategy.rung.zero_stage for strategy in training.ran} == {1}


@pytest.mark.parametrize(("method", "words"), [(Method.FULL, "--method lora"), (Method.LORA, "--seq 32")])
def test_where_nothing_at_all_is_left_the_request_asks_for_less(stage: Stage, method: Method, words: str) -> None:
    hungry(stage, lambda strategy: True, saves=False)
    with pytest.raises(TrainingFailed, match="no rung is left") as failed:
        stage.train(replace(REQUEST, pins=Pins(method=method)))
    assert shlex.join(failed.value.anew) == f"--output-dir {stage.root / 'run-2'} {words}"


def test_what_is_short_beside_memory_steps_nowhere(stage: Stage) -> None:
    training = hungry(stage, lambda strategy: True, end=out_of_memory(Place.SHARED))
    with pytest.raises(TrainingFailed, match="/dev/shm") as failed:
        stage.train(PINNED)
    assert failed.value.anew == ()
    assert len(training.ran) == 1
