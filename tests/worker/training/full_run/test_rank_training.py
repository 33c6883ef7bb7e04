"""The full run: where it goes on, what it is told to do, and what its log says of its speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autofit.domain.request import Request, Training
from autofit.runs.run_folder import RunFolder
from autofit.worker.training.full_run.rank_training import checkpoint, schedule_arguments
from autofit.worker.training.full_run.training_log import TrainingLog

REQUEST = Request("m", 64)


def leave_checkpoint(folder: Path, step: int, *, is_whole: bool = True) -> str:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / ("trainer_state.json" if is_whole else "model.safetensors")).touch()
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


def test_what_stands_after_the_dashes_goes_before_theschedule() -> None:
    plain = schedule_arguments(replace(REQUEST, training=Training(max_steps=7, save_steps=3, report_to=("wandb",))))
    assert (plain["max_steps"], plain["save_steps"], plain["eval_strategy"]) == (7, 3, "no")
    assert plain["report_to"] == ["wandb"]
    extra = ("--save-total-limit=5", "--eval_strategy", "epoch", "--load_best_model_at_end")
    told = schedule_arguments(replace(REQUEST, eval_fraction=0.1, training=Training(extra_arguments=extra)))
    assert not {"save_total_limit", "eval_strategy"} & set(told)
    assert (told["max_steps"], told["eval_steps"], told["report_to"]) == (-1, 500, "none")


@pytest.mark.parametrize("given", [{"eval_data": "e.jsonl"}, {"eval_fraction": 0.1}], ids=str)
def test_evaluation_comes_with_its_data(given: dict[str, object]) -> None:
    assert schedule_arguments(replace(REQUEST, **given))["eval_strategy"] == "steps"  # type: ignore[arg-type]


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
