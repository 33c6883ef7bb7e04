"""Every end of a command: one sentence, one exit code, no traceback."""

from __future__ import annotations

import json
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
