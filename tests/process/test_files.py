"""A file is the old one or the new one, whoever fails or looks meanwhile."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from autofit.process import files
from autofit.process.files import ANY, OURS, OURS_TO_RUN, explain, keep_others_from_writing, write_whole


@pytest.mark.parametrize(("content", "there"), [("größer\n", "größer\n".encode()), (b"\x00\xff", b"\x00\xff")])
@pytest.mark.parametrize("is_durable", [False, True])
def test_what_is_written_is_there_and_nothing_else(
    tmp_path: Path, content: str | bytes, there: bytes, is_durable: bool
) -> None:
    path = tmp_path / "report.json"
    path.write_text("of an earlier start")
    write_whole(path, content, is_durable=is_durable)
    assert path.read_bytes() == there
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("umask", "usual", "ours", "script"),
    [
        (0o000, 0o666, 0o644, 0o755),
        (0o002, 0o664, 0o644, 0o755),
        (0o027, 0o640, 0o640, 0o750),
        (0o077, 0o600, 0o600, 0o700),
    ],
)
def test_its_permissions_follow_the_umask_and_what_is_run_again_nobody_else_may_write(
    tmp_path: Path, umask: int, usual: int, ours: int, script: int
) -> None:
    before = os.umask(umask)
    try:
        for name, mode in (("usual", ANY), ("ours", OURS), ("script", OURS_TO_RUN)):
            write_whole(tmp_path / name, "", mode=mode)
        keep_others_from_writing()
        write_whole(tmp_path / "kept", "")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "ours", "script", "kept")]
    assert modes == [usual, ours, script, ours]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text("of an earlier start")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, "cut off", is_durable=True)
    assert path.read_text() == "of an earlier start"
    assert list(tmp_path.iterdir()) == [path]


def test_several_may_write_the_same_at_once_and_who_reads_finds_it_whole(tmp_path: Path) -> None:
    path, size, errors = tmp_path / "shared.json", 200_000, []
    write_whole(path, b"0" * size)

    def write(letter: bytes) -> None:
        try:
            for _ in range(20):
                write_whole(path, letter * size)
        except OSError as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"1", b"2", b"3")]
    for writer in writers:
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers):
        seen.append(path.read_bytes())
    for writer in writers:
        writer.join()
    assert not errors
    assert all(len(content) == size and len(set(content)) == 1 for content in [*seen, path.read_bytes()])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "there is no space left for"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "there is no space left for"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be written (Permission denied)"),
    ],
)
def test_why_it_cannot_be_written_is_one_sentence(tmp_path: Path, error: OSError, said: str) -> None:
    assert said in explain(error, tmp_path)
    assert str(tmp_path) in explain(error, tmp_path)
