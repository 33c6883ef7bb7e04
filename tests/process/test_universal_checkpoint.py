"""The folder in which a checkpoint is made universal."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.process import universal_checkpoint
from tests.fake_checkpoint import write_checkpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "elsewhere/checkpoint-8")


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    return folder


def make(checkpoints: Path, source: Path) -> Path:
    begun = universal_checkpoint.begin(checkpoints, source)
    (begun / "global_step8_universal").mkdir()
    (begun / "latest_universal").write_text("global_step8_universal")
    return universal_checkpoint.finish(begun, source)


def test_it_has_the_rest_of_the_checkpoint_and_nothing_that_is_divided(checkpoints: Path, source: Path) -> None:
    before = sorted(path.name for path in source.iterdir())
    place = make(checkpoints, source)
    rest = set(before) - {"latest", "global_step8"}
    assert {path.name for path in place.iterdir()} == rest | {"global_step8_universal", "latest_universal"}
    assert universal_checkpoint.found(checkpoints, source) == place
    assert sorted(path.name for path in source.iterdir()) == before


def test_one_that_was_not_finished_or_is_of_another_checkpoint_is_none(
    checkpoints: Path, source: Path, tmp_path: Path
) -> None:
    universal_checkpoint.begin(checkpoints, source)
    assert universal_checkpoint.found(checkpoints, source) is None
    make(checkpoints, source)
    assert universal_checkpoint.found(checkpoints, write_checkpoint(tmp_path / "other/checkpoint-8")) is None


def test_what_goes_takes_nothing_of_the_checkpoint_with_it(checkpoints: Path, source: Path) -> None:
    before = {path.name: path.is_dir() for path in source.rglob("*")}
    make(checkpoints, source)
    universal_checkpoint.begin(checkpoints, write_checkpoint(checkpoints / "checkpoint-9"))
    universal_checkpoint.drop(checkpoints)
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-9"]
    assert {path.name: path.is_dir() for path in source.rglob("*")} == before
