"""Where a training ends that was asked to: after the step, the evaluation or the save that it was at."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState

from autofit.worker.rank.failure import TrainingStopped
from autofit.worker.training.full_run.step_agreement import StepAgreement
from autofit.worker.training.full_run.stop_wish import StopWish

CPU = torch.device("cpu")


class Rank:
    """One rank alone, and the signals that it heard."""

    def __init__(self, folder: Path) -> None:
        self.heard: int | None = None
        self.listens = False
        self.args: Any = SimpleNamespace(output_dir=str(folder))
        self.state, self.control = TrainerState(global_step=7), TrainerControl()
        self.wish = StopWish(self, CPU)  # type: ignore[arg-type]
        self.agreement = StepAgreement([self.wish], CPU)
        (folder / "checkpoint-7").mkdir()

    def listen(self) -> None:
        self.listens = True

    def do(self, event: str) -> bool:
        """Whether it wants to save then."""
        self.control.should_save = False
        for callback in (self.agreement, self.wish):
            getattr(callback, f"on_{event}")(self.args, self.state, self.control)
        return self.control.should_save


@pytest.fixture
def rank(tmp_path: Path) -> Rank:
    rank = Rank(tmp_path)
    assert not rank.do("train_begin")
    assert rank.listens
    return rank


def test_nothing_ends_that_nobody_asked_to(rank: Rank) -> None:
    assert not any(rank.do(event) for event in ("step_end", "evaluate", "save"))


@pytest.mark.parametrize("event", ["step_end", "evaluate"])
def test_after_a_step_or_its_evaluation_it_is_saved_and_ended(rank: Rank, event: str) -> None:
    rank.heard = 15
    assert rank.do(event)
    with pytest.raises(TrainingStopped) as stopped:
        rank.do("save")
    assert (stopped.value.step, stopped.value.signal) == (7, 15)


def test_a_signal_during_a_save_is_heard_after_it_and_nothing_is_saved_twice(rank: Rank) -> None:
    assert not rank.do("step_end")
    rank.heard = 10
    with pytest.raises(TrainingStopped) as stopped:
        rank.do("save")
    assert stopped.value.step == 7


def test_a_save_for_which_there_was_no_room_is_not_told_as_one(rank: Rank) -> None:
    rank.heard, rank.state.global_step = 15, 8
    with pytest.raises(TrainingStopped) as stopped:
        rank.do("save")
    assert stopped.value.step is None


def test_what_comes_after_the_last_step_is_left_to_end(rank: Rank) -> None:
    """The evaluation of the model that is saved then."""
    rank.do("train_end")
    rank.heard = 15
    assert not rank.do("evaluate")
