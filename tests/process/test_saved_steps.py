"""Which of a folder's checkpoints a training goes on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autofit.process.saved_steps import SavedSteps, Torn, last_whole, saved_steps, torn, whole
from tests.fake_checkpoint import write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (9, 10, 100):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    return tmp_path


def tear(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"")


def test_the_last_whole_one_is_taken_and_those_after_it_are_told(folder: Path) -> None:
    assert last_whole(folder) == folder / "checkpoint-100"
    assert torn(folder) == []
    for step in (100, 9):
        tear(folder / f"checkpoint-{step}")
    assert last_whole(folder) == folder / "checkpoint-10"
    assert last_whole(folder, 9) is None
    assert whole(folder) == [folder / "checkpoint-10"]
    assert torn(folder) == [Torn(folder / "checkpoint-100", "model.safetensors is cut short")]
    assert str(torn(folder)[0]).endswith(
        "checkpoint-100 is not whole (model.safetensors is cut short) and is passed over"
    )


def test_where_none_is_whole_there_is_none(folder: Path) -> None:
    for step in (9, 10, 100):
        tear(folder / f"checkpoint-{step}")
    assert last_whole(folder) is None
    assert len(torn(folder)) == 3


def call_best(checkpoint: Path, best: str) -> None:
    (checkpoint / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": best}))


def test_the_best_one_is_the_one_that_the_last_whole_one_calls_so(folder: Path) -> None:
    assert saved_steps(folder) == SavedSteps((9, 10, 100))
    call_best(folder / "checkpoint-10", f"/moved/since/{folder.name}/checkpoint-9")
    call_best(folder / "checkpoint-100", f"{folder}/checkpoint-10")
    assert saved_steps(folder) == SavedSteps((9, 10, 100), best=10)
    tear(folder / "checkpoint-100")
    saved = saved_steps(folder)
    assert (saved.whole, saved.last, saved.best) == ((9, 10), 10, 9)
    assert saved.torn == (str(torn(folder)[0]),)


def test_a_best_one_that_is_not_there_or_no_step_is_none(folder: Path) -> None:
    for best in ("checkpoint-50", "elsewhere"):
        call_best(folder / "checkpoint-100", best)
        assert saved_steps(folder).best is None
