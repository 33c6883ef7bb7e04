"""Data is known by what is in it, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.inputs.data_files import check_source, data_digest


def test_a_file_is_the_same_wherever_it_lies_and_another_with_another_row(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text("1\n2\n")
    second.write_text("1\n2\n")
    assert data_digest(str(first)) == data_digest(str(second)) == data_digest(f"{tmp_path}/[a]*.jsonl")
    second.write_text("2\n1\n")
    assert data_digest(str(first)) != data_digest(str(second))


def test_a_folder_is_its_data_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("1\n")
    before = data_digest(str(tmp_path))
    (tmp_path / "README.md").write_text("about it")
    assert data_digest(str(tmp_path)) == before
    (tmp_path / "b.jsonl").write_text("2\n")
    assert data_digest(str(tmp_path)) != before


def test_of_a_large_file_the_size_and_blocks_all_over_it_count(tmp_path: Path) -> None:
    path, size_bytes = tmp_path / "a.jsonl", 200 * 2**20
    seen = set()
    for at in (None, 0, size_bytes // 2, size_bytes):
        with path.open("wb") as stream:
            stream.truncate(size_bytes)  # of holes
            if at is not None:
                stream.seek(at)
                stream.write(b"x")
        seen.add(data_digest(str(path)))
    assert len(seen) == 4


@pytest.mark.parametrize("source", [None, "org/set", "missing.jsonl"])
def test_what_lies_nowhere_here_is_unknown(source: str | None) -> None:
    assert data_digest(source) is None


def test_a_file_that_is_not_there_is_told_from_a_data_set_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    for source in (None, str(tmp_path / "a.jsonl"), str(tmp_path), f"{tmp_path}/*.csv", "org/set", "set:config"):
        check_source(source)
    for source in (str(tmp_path / "b.jsonl"), "chats.csv", "./set", "~/no-such-folder-of-anybody"):
        with pytest.raises(UsageError, match="there is no such file or folder"):
            check_source(source)
