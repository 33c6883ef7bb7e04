"""What the names in a folder of DeepSpeed's checkpoints tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.domain.script import LoadedCheckpoint
from autofit.inputs.script_checkpoint import read_checkpoint, to_make_universal

WEIGHTS = "mp_rank_00_model_states.pt"
SHARDS = tuple(f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(3))
PARTS = tuple(f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(3))


@pytest.mark.parametrize(
    ("names", "stages", "rank_count"),
    [
        ((WEIGHTS,), (0,), None),
        ((WEIGHTS, *SHARDS), (1, 2), 3),
        ((WEIGHTS, *(f"bf16_{name}" for name in SHARDS)), (1, 2), 3),
        ((*PARTS, *SHARDS), (3,), 3),
    ],
)
def test_names_tell_who_can_load_it(
    tmp_path: Path, names: tuple[str, ...], stages: tuple[int, ...], rank_count: int | None
) -> None:
    put(tmp_path / "step9", *names)
    (tmp_path / "latest").write_text("step9\n")
    assert read_checkpoint(str(tmp_path)) == LoadedCheckpoint(str(tmp_path / "step9"), stages, rank_count)
    assert read_checkpoint(str(tmp_path), "step9") == read_checkpoint(str(tmp_path))
    assert read_checkpoint(str(tmp_path), "step8") is None


def test_where_nothing_lies_there_is_none(tmp_path: Path) -> None:
    assert read_checkpoint(str(tmp_path / "nowhere")) is None
    put(tmp_path / "step9", "notes.txt")
    (tmp_path / "latest").write_text("step9")
    assert read_checkpoint(str(tmp_path)) is None


def test_a_universal_one_has_a_name_of_its_own(tmp_path: Path) -> None:
    put(tmp_path / "step9_universal", WEIGHTS)
    (tmp_path / "latest_universal").write_text("step9_universal")
    found = read_checkpoint(str(tmp_path), is_universal=True)
    assert found is not None
    assert found.is_universal
    assert found.zero_stages == (1, 2)
    assert read_checkpoint(str(tmp_path)) is None


def test_only_what_zero_has_written_can_be_made_universal_and_once(tmp_path: Path) -> None:
    put(tmp_path / "step9", WEIGHTS)
    (tmp_path / "latest").write_text("step9")
    assert to_make_universal(str(tmp_path)) is None
    (tmp_path / "step9" / SHARDS[0]).touch()
    found = to_make_universal(str(tmp_path))
    assert found == LoadedCheckpoint(str(tmp_path / "step9"), (1, 2), 1, is_universal=True)
    put(tmp_path / "step9_universal", WEIGHTS)
    (tmp_path / "latest_universal").write_text("step9_universal")
    assert to_make_universal(str(tmp_path)) is None


def put(place: Path, *names: str) -> None:
    place.mkdir()
    for name in names:
        (place / name).touch()
