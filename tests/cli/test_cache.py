"""`autofit cache`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from autofit.cli import cache
from autofit.cli.boundary import guarded
from autofit.store import Store
from autofit.store.location import FILE_NAME
from tests.store.samples import KEY, TRIALS, trace

DAY_S = 86400.0


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOFIT_CACHE", str(tmp_path))
    return tmp_path / FILE_NAME


@pytest.fixture
def filled(path: Path) -> Path:
    with Store(path) as store:
        for trial in TRIALS:
            store.remember(trial, KEY)
        store.put_traces("model", [trace(1)])
    return path


def run(*words: str) -> int:
    with cache.command.make_context("cache", list(words)) as context:
        return guarded(lambda: cache.command.invoke(context), list(words))


def test_the_list(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    assert str(filled) in text.replace("\n", "").replace(" ", "")
    assert f"{len(TRIALS)} trials, 1 trace and 0 sets of constants" in text
    assert "Llama-2-13B · 2,048 tokens, batch 32 · 8 × NVIDIA A100-SXM4-80GB" in text
    assert "zero1+lora mb4" in text
    assert "31,200 tokens/s" in text
    assert "out of memory" in text
    assert max(len(line) for line in text.splitlines() if str(filled.parent) not in line) <= 80


def test_the_list_as_json(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json") == 0
    short = capsys.readouterr().out
    assert run("list", "--json") == 0
    assert capsys.readouterr().out == short
    body = json.loads(short)
    assert body["schema"] == 1
    assert body["path"] == str(filled)
    assert body["size_bytes"] == filled.stat().st_size
    assert body["counts"]["trace_count"] == 1
    assert {entry["outcome"] for entry in body["trials"]} == {"Measured", "OutOfMemory"}
    assert {entry["type"] for entry in body["trials"]} == {"Entry"}, "programs read it: the name of the class stays"


def test_an_empty_cache_is_not_made_by_looking(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "nothing is remembered yet" in capsys.readouterr().out
    assert not path.exists()


def test_what_is_old_is_pruned(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(filled, clock=lambda: 40 * DAY_S) as store:
        store.remember(TRIALS[0], replace(KEY, global_batch=64))
    assert run("prune", "--older-than", "30d") == 0
    assert capsys.readouterr().out == "forgot 1 trial, 0 traces and 0 sets of constants\n"


def test_a_model_is_pruned(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prune", "--model", "another") == 0
    assert "forgot 0 trials" in capsys.readouterr().out
    assert run("prune", "--model", "Llama-2-13B") == 0
    assert f"forgot {len(TRIALS)} trials" in capsys.readouterr().out


def test_everything_is_pruned(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prune", "--all") == 0
    assert f"forgot {len(TRIALS)} trials, 1 trace" in capsys.readouterr().out
    assert not filled.exists()


@pytest.mark.parametrize("words", [(), ("--all", "--model", "a"), ("--older-than", "30"), ("--older-than", "")])
def test_pruning_needs_to_know_what(filled: Path, words: tuple[str, ...]) -> None:
    with cache.command.make_context("cache", ["prune", *words]) as context, pytest.raises(click.UsageError):
        cache.command.invoke(context)
    with Store(filled) as store:
        assert store.recall(KEY) == TRIALS


def test_the_export_holds_what_a_trial_depends_on(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export") == 0
    text = capsys.readouterr().out
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == len(TRIALS)
    assert lines[0]["schema"] == 1
    assert lines[0]["key"]["machine"]["nodes"][0]["link"] == "NVLink"
    assert lines[0]["trial"]["strategy"]["micro_batch"] == TRIALS[0].strategy.micro_batch
    assert run("export", str(filled.parent / "out.jsonl")) == 0
    assert (filled.parent / "out.jsonl").read_text() == text


def test_a_damaged_file_is_told_and_can_be_removed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("not a database\n" * 100)
    assert run("list") == 1
    assert "autofit cache prune --all" in capsys.readouterr().err
    assert run("prune", "--all") == 0
    assert "removed" in capsys.readouterr().out
    assert not path.exists()


def test_it_is_light(filled: Path) -> None:
    heavy = ("torch", "rich", "psutil", "transformers", "pynvml", "autofit.app.train")
    program = f"""
import sys
from autofit.cli.cache import command
command(standalone_mode=False)
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.strip() == "[]"
