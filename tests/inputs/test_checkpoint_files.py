"""Whether a checkpoint is whole, told from its files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from autofit.domain.request import Lora
from autofit.inputs.checkpoint_files import MANIFEST, damage, sizes_bytes
from tests.fake_checkpoint import write_checkpoint, write_safetensors, write_torch_file

KINDS = {
    "without an engine": {"zero_stage": 0},
    "on one rank": {"zero_stage": 0, "ranks": 1},
    "ZeRO-2": {"zero_stage": 2},
    "ZeRO-3": {"zero_stage": 3},
    "an adapter's": {"zero_stage": 2, "lora": Lora(8, 16, ("q_proj",))},
}


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint-4", **request.param)


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def write_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text(json.dumps({"schema": 1, "sizes_bytes": sizes_bytes(folder)}))


def test_a_checkpoint_of_each_kind_is_whole_with_a_manifest_and_without(checkpoint: Path) -> None:
    assert damage(checkpoint) is None
    write_manifest(checkpoint)
    assert damage(checkpoint) is None
    (checkpoint / "notes.txt").write_text("somebody else's")
    assert damage(checkpoint) is None


def test_with_a_manifest_any_file_that_is_missing_or_short_is_told(checkpoint: Path) -> None:
    write_manifest(checkpoint)
    for path in files(checkpoint):
        if path.name in (MANIFEST, "trainer_state.json"):
            continue
        content, name = path.read_bytes(), path.relative_to(checkpoint).as_posix()
        path.unlink()
        assert damage(checkpoint) == f"{name} is missing"
        path.write_bytes(content[:-1])
        assert damage(checkpoint) == f"{name} has {len(content) - 1:,} of {len(content):,} bytes"
        path.write_bytes(content)
    assert damage(checkpoint) is None


def test_without_a_manifest_a_file_of_tensors_that_is_cut_or_empty_is_told(checkpoint: Path) -> None:
    """As a kill or a loss of power leaves it: cut short, of no bytes, or of its bytes with nothing in them."""
    tensors = [path for path in files(checkpoint) if path.suffix in (".pt", ".pth", ".bin", ".safetensors")]
    assert len(tensors) >= 4
    for path in tensors:
        content = path.read_bytes()
        for torn in (content[: len(content) // 2], b"", bytes(len(content))):
            path.write_bytes(torn)
            assert damage(checkpoint) == f"{path.relative_to(checkpoint).as_posix()} is cut short"
        path.write_bytes(content)
    assert damage(checkpoint) is None


@pytest.mark.parametrize(
    ("zero_stage", "lost", "told"),
    [
        (0, "rng_state_0.pth", "parts of some ranks are missing"),
        (0, "model.safetensors", "its weights are missing"),
        (0, "trainer_state.json", "it has no readable trainer_state.json"),
        (2, "global_step4/mp_rank_00_model_states.pt", "what DeepSpeed's engine saved is missing"),
        (2, "global_step4/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "parts of some ranks are missing"),
        (2, "global_step4/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", "parts of some ranks are missing"),
        (3, "global_step4/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", "parts of some ranks are missing"),
    ],
)
def test_without_a_manifest_what_the_other_files_promise_is_missed(
    zero_stage: int, lost: str, told: str, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint-4", zero_stage=zero_stage)
    (checkpoint / lost).unlink()
    assert damage(checkpoint) == told


@pytest.mark.parametrize("content", [b"\xff", b"a\0b", b"scheduler.pt"], ids=["no text", "no name", "no folder"])
def test_a_damaged_name_of_the_engines_folder_is_told(content: bytes, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint-4", zero_stage=2)
    (checkpoint / "latest").write_bytes(content)
    assert damage(checkpoint) == "its file latest is damaged"


def test_a_shard_that_the_index_names_is_missed(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint-4", zero_stage=0)
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert damage(checkpoint) == "a shard of its weights is missing"
    write_safetensors(checkpoint / names["b"])
    assert damage(checkpoint) is None
    (checkpoint / "model.safetensors.index.json").write_text("{")
    assert damage(checkpoint) == "the index of its weights cannot be read"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sizes_bytes": 3}', '{"sizes_bytes": {"a": "b"}}', "[" * 100_000])
def test_a_manifest_that_says_nothing_is_told(text: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint-4")
    (checkpoint / MANIFEST).write_text(text)
    assert damage(checkpoint) == f"its {MANIFEST} cannot be read"


def test_a_file_of_before_zip_is_taken_for_whole(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint-4")
    (checkpoint / "scheduler.pt").write_bytes(b"\x80\x02}q.")
    assert damage(checkpoint) is None


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_torch_file, None], ids=["the tests' own", "torch.save"])
def test_a_file_of_torch_is_told_at_every_length(write: Callable[[Path], None] | None, tmp_path: Path) -> None:
    """That the tests' own stand-in is like it; torch is imported."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint-4")
    path = checkpoint / "scheduler.pt"
    if write is None:
        import torch

        torch.save({"a": torch.ones(100)}, path)
    else:
        write(path)
    size_bytes = path.stat().st_size
    assert damage(checkpoint) is None
    for cut_bytes in range(size_bytes - 1, -1, -7):
        os.truncate(path, cut_bytes)
        assert damage(checkpoint) == "scheduler.pt is cut short"
