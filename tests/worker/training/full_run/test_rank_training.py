"""The full run: where it goes on, and what its log says of its speed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autofit.domain.codec import to_json
from autofit.domain.event import Note
from autofit.domain.metric import Metric, MetricCourse
from autofit.domain.request import Request, Training
from autofit.domain.task import Task
from autofit.runs.run_folder import RunFolder
from autofit.worker.training.full_run.rank_training import _final_evaluation, checkpoint
from autofit.worker.training.full_run.training_log import TrainingLog
from autofit.worker.training.full_run.training_progress import Progress

REQUEST = Request("m", 64)


def leave_checkpoint(folder: Path, step: int, *, is_whole: bool = True) -> str:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / ("trainer_state.json" if is_whole else "model.safetensors")).write_text("{}")
    return str(path)


def test_a_run_goes_on_from_its_highest_whole_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert checkpoint(REQUEST, folder.checkpoints) is None
    leave_checkpoint(folder.checkpoints, 900)
    last = leave_checkpoint(folder.checkpoints, 1000)
    leave_checkpoint(folder.checkpoints, 1100, is_whole=False)  # cut off while it was written
    assert checkpoint(REQUEST, folder.checkpoints) == last
    assert folder.last_checkpoint == last  # what the session says is what the rank does


def test_a_checkpoint_that_the_user_names_begins_a_run_that_goes_on_from_its_own(tmp_path: Path) -> None:
    request = replace(REQUEST, training=Training(resume="/c"))
    assert checkpoint(request, tmp_path) == "/c"
    own = leave_checkpoint(tmp_path, 1000)
    assert checkpoint(request, tmp_path) == own


def test_a_last_evaluation_that_was_not_finite_stays_so() -> None:
    """The log says None of it, and the divergence watch is to see it."""
    last = {"step": 4, "eval_loss": None}
    trainer: Any = SimpleNamespace(
        eval_dataset=[],
        state=SimpleNamespace(log_history=[{"step": 3, "loss": 1.0}, last], global_step=4),
        args=SimpleNamespace(load_best_model_at_end=False),
    )
    loss = _final_evaluation(trainer)
    assert loss is not None
    assert math.isnan(loss)
    last["eval_loss"] = 2.5
    assert _final_evaluation(trainer) == 2.5


class Lines:
    """A trainer's log, written by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, first_step: int = 0) -> None:
        self.now_s = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now_s)
        self.state: Any = SimpleNamespace(global_step=first_step)
        self.tokens = 0
        self.log = TrainingLog()
        self.log.on_train_begin(None, self.state)  # type: ignore[arg-type]

    def write(self, duration_s: float, tokens: int, loss: float = 1.0) -> None:
        self.now_s += duration_s
        self.state.global_step += 1
        self.tokens += tokens
        logs = {"loss": loss, "num_tokens": self.tokens}
        self.log.on_log(None, self.state, None, logs)  # type: ignore[arg-type]


def test_after_a_warm_up_every_interval_of_a_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines(monkeypatch, first_step=7)
    for duration_s, loss in ((9.0, 4.0), (9.0, 3.0), (1.0, 2.0), (1.0, 1.0)):
        lines.write(duration_s, 100 * lines.state.global_step, loss)
    assert (lines.log.first_loss, lines.log.last_loss) == (4.0, 1.0)
    assert lines.log.last_tokens_per_s == 1000
    assert lines.log.tokens_per_s == (900 + 1000) / 2.0


@pytest.mark.parametrize("disturb", [TrainingLog.on_save, TrainingLog.on_evaluate])
def test_an_interval_with_a_save_or_an_evaluation_does_not_count(disturb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines(monkeypatch)
    for _ in range(3):
        lines.write(1.0, 100)
    disturb(lines.log)
    lines.write(50.0, 100)
    assert lines.log.last_tokens_per_s == 100
    lines.write(2.0, 100)
    assert lines.log.tokens_per_s == 200 / 3.0
    lines.log.on_log(None, lines.state, None, {"eval_loss": 2.0})  # type: ignore[arg-type]
    assert lines.log.last_loss == 1.0


def test_what_people_should_know_is_told_once(tmp_path: Path) -> None:
    """However often a checkpoint is saved."""
    nobody: Any = None
    progress = Progress(tmp_path / "progress.jsonl", nobody, TrainingLog(), nobody)
    for text in ("saving takes memory", "another", "saving takes memory"):
        progress.tell(text)
    lines = (tmp_path / "progress.jsonl").read_text().splitlines()
    assert lines == [to_json(Note("saving takes memory")), to_json(Note("another"))]


def test_what_a_task_tells_beside_the_loss_is_kept_from_the_first_step_to_the_last() -> None:
    """A step's figures and an evaluation's, by the trainer's names; a line without them takes none away."""
    log, state = TrainingLog(Task.DPO.traits.told), SimpleNamespace(global_step=1)
    for logs in (
        {"loss": 1.0, "rewards/accuracies": 0.5, "rewards/margins": 0.1},
        {"loss": 1.0, "rewards/accuracies": 0.75, "rewards/margins": 0.2},
        {"eval_loss": 2.0, "eval_rewards/accuracies": 1.0, "eval_rewards/margins": 0.3},
        {"train_runtime": 1.0},
    ):
        log.on_log(None, state, None, logs)  # type: ignore[arg-type]
    assert log.courses == (MetricCourse("accuracy", 0.5, 0.75, 1.0), MetricCourse("margin", 0.1, 0.2, 0.3))
    assert log.last_metrics == (Metric("accuracy", 0.75), Metric("margin", 0.2))
    assert TrainingLog().courses == ()
