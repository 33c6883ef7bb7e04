"""Which of a folder's checkpoints a training goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.process.saved_steps import Torn, last_whole, torn, whole
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
