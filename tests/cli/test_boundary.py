"""Every end of a command: one sentence, one exit code, no traceback."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autofit.domain.errors import InternalError, NothingFits, TrainingFailed, UsageError
from autofit.domain.event import Note, Screen
from tests.cli.command import end

Replace = Callable[[Callable[..., None]], None]


def failing(error: BaseException) -> Callable[..., None]:
    def train(request: object, **rest: Any) -> None:
        raise error

    return train


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UsageError("a line is broken.\nFix it."), 2, "autofit: a line is broken.\n         Fix it.\n"),
        (TrainingFailed("rank 3 was killed."), 1, "autofit: rank 3 was killed.\n"),
        (NothingFits(), 1, ""),
        (KeyboardInterrupt(), 130, "autofit: interrupted.\n"),
    ],
)
def test_an_expected_end(
    replace_session: Replace, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, told: str
) -> None:
    replace_session(failing(error))
    assert end("train", "--model", "m") == code
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("error", [KeyError("gone"), EOFError("short"), InternalError("lost")])
def test_our_bug_leaves_a_log(
    replace_session: Replace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: Exception,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    replace_session(failing(error))
    assert end("train", "--model", "m") == 3
    (log,) = (tmp_path / "autofit").glob("crash-*.log")
    message = capsys.readouterr().err
    assert str(log) in message
    assert "Traceback" not in message
    assert "Traceback" in log.read_text()
    assert "autofit train --model m" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_neither_the_sentence_nor_the_log_has_a_secret(
    replace_session: Replace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_marked")
    replace_session(failing(RuntimeError("Bearer hf_marked was refused by http://me:marked@proxy:1/")))
    assert end("train", "--model", "m") == 3
    (log,) = (tmp_path / "autofit").glob("crash-*.log")
    for told in (capsys.readouterr().err, log.read_text()):
        assert "Bearer *** was refused by http://proxy:1/" in told
        assert "marked" not in told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/d/x"),
            "No space left on device (/d/x): free some space there",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded: free some space there"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/d"),
            "Permission denied (/d): see to the permissions there",
        ),
        (OSError(errno.EROFS, "Read-only file system", "/d"), "Read-only file system (/d): see to"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), "xxx): use shorter names"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "Too many open files: raise the limit of open files (ulimit -n)",
        ),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "raise the limit of processes (ulimit -u)"),
        (MemoryError(), "no memory is left"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "names and text files are to be UTF-8"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_the_machine_refuses_is_no_bug_of_ours(
    replace_session: Replace, capsys: pytest.CaptureFixture[str], error: Exception, told: str
) -> None:
    replace_session(failing(error))
    assert end("train", "--model", "m") == 1
    message = capsys.readouterr().err
    assert told in message
    assert "bug" not in message


def test_a_working_directory_that_is_gone_is_told(
    replace_session: Replace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def train(request: object, **rest: Any) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "gone").mkdir()
        os.chdir("gone")
        Path().resolve().rmdir()
        os.getcwd()

    replace_session(train)
    assert end("train", "--model", "m") == 1
    assert "not there any more: change into another one." in capsys.readouterr().err


def test_a_file_of_ours_that_is_missing_is_our_bug(
    replace_session: Replace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    replace_session(failing(FileNotFoundError(errno.ENOENT, "No such file or directory", "/table.csv")))
    assert end("train", "--model", "m") == 3


def test_an_interrupt_says_how_to_go_on(replace_session: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    replace_session(failing(KeyboardInterrupt()))
    end("train", "--model", "m", "--output-dir", "runs/a")
    assert "runs/a" in capsys.readouterr().out


def test_json_is_one_object_even_when_it_fails(replace_session: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    def train(request: object, *, screen: Screen, **rest: Any) -> None:
        screen.show(Note("looked"))
        raise TrainingFailed("rank 3 was killed.")

    replace_session(train)
    assert end("train", "--model", "m", "--json") == 1
    body = json.loads(capsys.readouterr().out)
    assert (body["schema"], body["notes"], body["error"]) == (1, ["looked"], "rank 3 was killed.")


def test_an_unknown_verb_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert end("trian") == 2
    assert "train, launch, plan, compare, doctor, show, cache" in capsys.readouterr().err


def test_no_word_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert end() == 0
    assert "Verbs:" in capsys.readouterr().out
