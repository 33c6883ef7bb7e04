"""Pickles are programs: what they would run is found without running any of it."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autofit.app.resume import find_start
from autofit.domain.errors import UsageError
from autofit.domain.request import Training
from autofit.inputs.model_files import read_model_files
from autofit.inputs.pickled_names import check_checkpoint, check_weights, pickled_names
from autofit.runs.run_folder import RunFolder
from tests.builders import make_request
from tests.fake_checkpoint import write_checkpoint
from tests.hardware.model_folder import write_config


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "attacked"
    assert not (tmp_path / "attacked").exists()


def write_zip(path: Path, value: object, protocol: int = 2, name: str = "archive/data.pkl") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, pickle.dumps(value, protocol=protocol))
        archive.writestr("archive/data/0", b"\x80\x02cos\nsystem\n")  # a storage's bytes are no program
    return path


def write_legacy(path: Path, *values: object) -> Path:
    """As torch wrote it until its version 1.6."""
    path.write_bytes(b"".join(pickle.dumps(value, protocol=2) for value in (1, 1001, {}, *values)) + b"\0" * 64)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_attack_is_found_in_every_protocol(tmp_path: Path, mark: Path, protocol: int) -> None:
    path = write_zip(tmp_path / "pytorch_model.bin", {"weight": Attack(mark)}, protocol)
    with pytest.raises(UsageError, match=r"pytorch_model.bin asks for posix mkdir to be run .* may be an attack"):
        check_weights([path])


@pytest.mark.parametrize("at", [0, 1], ids=["among the tensors", "among the keys"])
def test_and_in_the_format_of_old(tmp_path: Path, mark: Path, at: int) -> None:
    values: list[object] = [OrderedDict(), ["0"]]
    values[at] = Attack(mark)
    with pytest.raises(UsageError, match="posix mkdir"):
        check_weights([write_legacy(tmp_path / "pytorch_model.bin", *values)])


def test_a_name_that_is_put_together_while_it_runs_is_none_that_is_known(tmp_path: Path) -> None:
    built = b"\x80\x04\x8c\x02os\x94" + b"\x8c\x06system\x94" + b"h\x00h\x010h\x01\x93."  # a text popped in between
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/DATA.PKL", built)
    assert list(pickled_names(path)) == ["?"]
    with pytest.raises(UsageError, match="attack"):
        check_weights([path])


def test_what_tensors_need_is_known(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.bin", OrderedDict(a={"b"}, c=bytearray(3)))
    write_legacy(tmp_path / "b.bin", OrderedDict(), ["0"])
    (tmp_path / "c.bin").touch()
    check_weights([tmp_path / name for name in ("a.bin", "b.bin", "c.bin")])


def test_what_is_cut_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"a": 1})[:-1])
    with pytest.raises(UsageError, match="not whole"):
        check_weights([path])


def test_a_model_is_refused_before_anything_is_tried(tmp_path: Path, mark: Path) -> None:
    folder = write_config(tmp_path)
    write_zip(folder / "pytorch_model.bin", Attack(mark))
    with pytest.raises(UsageError, match="Take the model's safetensors"):
        read_model_files(str(folder))


@pytest.mark.parametrize("name", ["global_step3/mp_rank_00_model_states.pt", "scheduler.pt", "rng_state_0.pth"])
def test_a_checkpoint_is_refused_before_anything_is_tried(tmp_path: Path, mark: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint-3")
    check_checkpoint(folder)
    write_zip(folder / name, Attack(mark))
    request = make_request(training=Training(resume=str(folder)))
    with pytest.raises(UsageError, match=rf"{name} asks for posix mkdir .*--model"):
        find_start(request, RunFolder(tmp_path / "run"))
