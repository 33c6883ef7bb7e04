"""What a checkpoint's own files tell, and that nothing of them is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest

from autofit.domain.checkpoint import Checkpoint
from autofit.domain.errors import UsageError
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.request import Lora
from autofit.inputs.torch_file import named_scalars
from autofit.inputs.training_checkpoint import read_checkpoint
from tests.fake_checkpoint import write_checkpoint


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", list(Dtype))
def test_what_was_trained_is_read(tmp_path: Path, zero_stage: int, dtype: Dtype) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-30", ranks=4, zero_stage=zero_stage, dtype=dtype.value, seed=7)
    assert read_checkpoint(str(folder)) == Checkpoint(str(folder), 30, 4, zero_stage, dtype, None, 64, 8, 7, 2e-5)


def test_an_adapter_tells_its_shape(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-3", lora=Lora(8, 16, ("v_proj", "q_proj")))
    assert read_checkpoint(str(folder)).lora == Lora(8, 16, ("q_proj", "v_proj"))


def test_what_is_not_told_is_not_guessed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-3")
    (folder / "training_args.bin").unlink()
    told = read_checkpoint(str(folder))
    assert (told.zero_stage, told.dtype, told.seed, told.global_batch, told.rank_count) == (None, None, None, None, 2)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("trainer_state.json", "no whole checkpoint"),
        ("latest", "no state of an optimizer is there"),
        ("global_step3/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "parts of some ranks are missing"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path, gone: str, said: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-3")
    (folder / gone).unlink()
    with pytest.raises(UsageError, match=said):
        read_checkpoint(str(folder))


@pytest.mark.parametrize("ranks", [1, 2])
def test_without_an_engine_every_rank_has_left_its_random_state(tmp_path: Path, ranks: int) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-3", ranks=ranks, zero_stage=0)
    told = read_checkpoint(str(folder))
    assert (told.zero_stage, told.rank_count, told.global_batch) == (0, ranks, 8)
    (folder / "optimizer.pt").rename(folder / "optimizer.pt.cut")
    with pytest.raises(UsageError, match="no state of an optimizer is there"):
        read_checkpoint(str(folder))


def test_without_an_engine_a_rank_may_be_missing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-3", ranks=3, zero_stage=0)
    (folder / "rng_state_1.pth").unlink()
    with pytest.raises(UsageError, match="parts of some ranks are missing"):
        read_checkpoint(str(folder))


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_run(tmp_path: Path) -> None:
    path = tmp_path / "training_args.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"seed": 7, "evil": _Evil(tmp_path / "made")}, protocol=2))
    assert named_scalars(path)["seed"] == 7
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip"])
def test_another_file_tells_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    assert named_scalars(tmp_path / "f") == {}


def test_a_member_of_an_enum_is_its_text(tmp_path: Path) -> None:
    """As transformers has its names of optimizers."""
    with zipfile.ZipFile(tmp_path / "args.bin", "w") as archive:
        archive.writestr("args/data.pkl", pickle.dumps({"optim": Dtype.BF16, "seed": 3, "other": [Dtype.BF16]}, 2))
    assert named_scalars(tmp_path / "args.bin") == {"optim": "bf16", "seed": 3}


def test_a_checkpoint_of_which_a_file_is_cut_short_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-4")
    (folder / "rng_state_1.pth").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"is no whole checkpoint: rng_state_1\.pth is cut short\. Name"):
        read_checkpoint(str(folder))
