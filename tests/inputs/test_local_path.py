"""What lies at a path that a user named, and what is proposed where nothing does."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.inputs.data_files import check_source, data_files
from autofit.inputs.local_path import Lies, nearest, what_lies_at
from autofit.inputs.model_files import read_model_files


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("models/llama", "home/models/llama"):
        Path(folder).mkdir(parents=True)
        Path(folder, "config.json").write_text("{")


def test_what_is_there_and_what_is_not() -> None:
    assert [what_lies_at(name) for name in ("models", "~/models", "models/llama/config.json")] == [
        Lies.FOLDER, Lies.FOLDER, Lies.FILE,
    ]  # fmt: skip
    nowhere = ("nothing", "models/llama/config.json/x", "a" * 5000, "a\0b", "~nobody-of-this-name/x")
    assert {what_lies_at(name) for name in nowhere} == {Lies.NOTHING}


def test_what_is_neither_a_file_nor_a_folder_is_named() -> None:
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    told = {"pipe": "is a pipe", "loop": "leads back to itself", "socket": "is a socket", "/dev/null": "is a device"}
    for name, sentence in told.items():
        for read in (check_source, read_model_files):
            with pytest.raises(UsageError, match=f"^{name} is .*{sentence.split(' ', 1)[1]}"):
                read(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("./modles/llama", "./models/llama"),
        ("models/lama", "models/llama"),
        ("Models/Llama/", "models/llama"),
        ("~/models/lama", "home/models/llama"),
        ("models/gpt2", None),
        ("nothing-like-it", None),
    ],
)
def test_the_nearest_folder_is_proposed(name: str, near: str | None) -> None:
    found = nearest(name)
    assert found == near or (near is not None and found == str(Path.cwd() / near))


@pytest.mark.parametrize("name", ["./modles/llama", "models/lama", "models/lama/", "~/models/lama", "models/x/lama"])
def test_a_mistyped_folder_of_a_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError) as caught:
        read_model_files(name)
    assert ("models/llama" in str(caught.value)) == ("/x/" not in name)


def test_a_mistyped_file_of_data() -> None:
    Path("chats.jsonl").touch()
    with pytest.raises(UsageError, match=r"there is no such file or folder. The nearest here is chats.jsonl."):
        check_source("chat.jsonl")


def test_a_folder_of_data_is_read_with_the_folders_in_it() -> None:
    wanted = ["d/A.JSONL", "d/b/c.jsonl.gz", "d/b/d.csv.ZST"]
    for name in [*wanted, "d/README.md", "d/.cache/x.json", "d/b/x.parquet.gz"]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    os.symlink("..", "d/b/up")
    assert data_files(Path("d")) == [Path(name) for name in wanted]


def test_a_folder_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"models cannot be read \(permission denied\)"):
        data_files(Path("models"))
