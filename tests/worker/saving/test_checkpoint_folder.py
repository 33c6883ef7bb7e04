"""The folder of a training's checkpoints: what gets a name, and what is removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autofit.inputs.checkpoint_files import MANIFEST, damage
from autofit.process.saved_steps import PARTIAL
from autofit.worker.saving.checkpoint_folder import CheckpointFolder
from tests.fake_checkpoint import write_checkpoint


def save(folder: Path, step: int, kept_count: int | None = None, best: str | None = None) -> None:
    """A save of a training on one rank."""
    checkpoints = CheckpointFolder(folder, kept_count)
    checkpoints.begin()
    write_checkpoint(folder / PARTIAL / f"checkpoint-{step}")
    checkpoints.flush(step)
    checkpoints.name(step)
    checkpoints.rotate(step, best)


def names(folder: Path) -> list[str]:
    return sorted((path.name for path in folder.iterdir()), key=lambda name: int(name.rpartition("-")[2]))


def test_a_checkpoint_gets_its_name_with_a_manifest_of_all_its_files(tmp_path: Path) -> None:
    (tmp_path / PARTIAL / "checkpoint-1").mkdir(parents=True)  # an earlier save was killed
    save(tmp_path, 2)
    assert names(tmp_path) == ["checkpoint-2"]
    sizes = json.loads((tmp_path / "checkpoint-2" / MANIFEST).read_text())["sizes_bytes"]
    assert sizes["global_step2/mp_rank_00_model_states.pt"] > 0
    assert MANIFEST not in sizes


def test_what_is_not_whole_gets_no_name(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, 2)
    checkpoints.begin()
    written = write_checkpoint(tmp_path / PARTIAL / "checkpoint-2")
    (written / "training_args.bin").write_bytes(b"PK")
    with pytest.raises(OSError, match=r"^what was written is not whole: training_args\.bin is cut short$"):
        checkpoints.name(2)
    assert names(tmp_path / PARTIAL) == ["checkpoint-2"]


def test_one_of_the_same_step_that_is_torn_is_replaced(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint-2", ranks=4)
    save(tmp_path, 2)
    assert names(tmp_path) == ["checkpoint-2"]
    assert damage(tmp_path / "checkpoint-2") is None
    assert not (tmp_path / "checkpoint-2/rng_state_3.pth").exists()


@pytest.mark.parametrize(
    ("kept_count", "best", "left"),
    [
        (2, None, [9, 10]),
        (2, 2, [2, 10]),
        (2, 10, [9, 10]),
        (1, None, [10]),
        (1, 2, [2, 10]),  # neither the best nor the last
        (None, None, [1, 2, 9, 10]),
        (0, None, [1, 2, 9, 10]),
    ],
)
def test_the_earliest_go_but_for_the_best_and_the_last(
    kept_count: int | None, best: int | None, left: list[int], tmp_path: Path
) -> None:
    for step in (1, 2, 9):
        save(tmp_path, step)
    save(tmp_path, 10, kept_count, None if best is None else str(tmp_path / f"checkpoint-{best}"))
    assert names(tmp_path) == [f"checkpoint-{step}" for step in left]


def test_what_is_not_whole_does_not_count(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    write_checkpoint(tmp_path / "checkpoint-30", zero_stage=0)
    (tmp_path / "checkpoint-30/model.safetensors").unlink()  # it was passed over, and the training comes there again
    save(tmp_path, 3, 2)
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]


def test_room_is_made_by_the_earliest_and_one_whole_checkpoint_stays(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    checkpoints, best = CheckpointFolder(tmp_path, 2), str(tmp_path / "checkpoint-1")
    assert checkpoints.make_room(best)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    assert checkpoints.make_room(best)
    assert not checkpoints.make_room(best)
    assert checkpoints.make_room(None)
    assert not checkpoints.make_room(None)
    assert names(tmp_path) == ["checkpoint-4"]
    assert checkpoints.last == tmp_path / "checkpoint-4"


def test_where_there_is_none_no_room_is_made(tmp_path: Path) -> None:
    assert not CheckpointFolder(tmp_path, 2).make_room(None)


def test_a_node_with_a_folder_of_its_own_names_its_part_and_touches_no_other(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, 2)
    write_checkpoint(tmp_path / PARTIAL / "checkpoint-2")
    checkpoints.name_elsewhere(2)
    checkpoints.name_elsewhere(2)
    write_checkpoint(tmp_path / PARTIAL / "checkpoint-2")
    checkpoints.name_elsewhere(2)  # as a shared folder looks to a node that has not heard of the move
    assert damage(tmp_path / "checkpoint-2") is None
