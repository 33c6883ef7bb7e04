"""Run folders and a store as earlier builds left them are read; they lie in tests/written_before."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Measured
from autofit.domain.trace import Trace
from autofit.probing.protocol import read_entry
from autofit.report.html import report_html
from autofit.runs.run_folder import RunFolder
from autofit.store.serialization import unpack
from autofit.store.store import Store

BEFORE = Path(__file__).parent / "written_before"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BEFORE, tmp_path / "before"))


def test_a_training_is_read(folder: Path) -> None:
    run = RunFolder(folder / "train")
    assert run.is_ours
    record = run.read_record()
    assert (record.request.pins, record.request.ranks) == (Pins(), 2)
    assert record.hardware is not None
    assert record.hardware.rank_count == 2
    assert [str(trial.strategy) for trial in record.trials] == [
        "zero1+lora mb1", "zero1+lora+gc mb1", "zero1+lora mb1", "zero2+lora mb1", "zero1+lora mb2", "zero1 mb1",
    ]  # fmt: skip
    assert all(isinstance(trial.outcome, Measured) for trial in record.trials)
    assert record.choice is not None
    assert record.choice.strategy.rung.method is Method.LORA
    assert len(record.choice.unprobed) == 37
    assert record.result is not None
    assert record.result.step_count == 4
    assert record.profile is not None
    assert run.last_checkpoint == str(folder / "train/checkpoints/checkpoint-4")
    assert "zero1+lora mb2" in report_html(record)


def test_a_line_of_deepspeed_is_read(folder: Path) -> None:
    run = RunFolder(folder / "launch")
    kept = run.read_decision()
    assert kept is not None
    assert kept.decision.config_path == str(folder / "launch/ds_config.json")
    assert (kept.settled, kept.timeline) == (None, None), "it was made for an hour"
    request = run.read_request()
    assert request is not None
    assert request.pins == Pins(
        method=Method.FULL, gradient_checkpointing=None, attention=Attention.SDPA,
        **{name: value for name, value in request.pins.fixed if name in ("dtype", "zero_stage", "offload")},
    )  # fmt: skip
    assert len(run.read_trials()) >= 2


def test_what_a_command_starts_is_there_and_understands_it(folder: Path) -> None:
    """`command.sh` names modules of ours, and hands one of them what it is to do."""
    train, launch = ((folder / name / "command.sh").read_text("utf-8") for name in ("train", "launch"))
    module = re.search(r"--module (\S+)", train)
    assert module is not None
    flags = re.findall(r"^  (--[a-z_-]+)", train.split(module.group(0))[1], re.MULTILINE)
    started = subprocess.run(
        [sys.executable, "-m", module.group(1), "--help"], capture_output=True, text=True, timeout=200, check=False
    )
    assert started.returncode == 0, started.stderr
    assert len(flags) >= 9
    assert all(flag in started.stdout for flag in flags)
    entry = re.search(r"--module (\S+) (\S+) examples", launch)
    assert entry is not None
    assert read_entry(entry.group(2)).memory_limit_bytes == 770_000_000
    found = f"import importlib.util; assert importlib.util.find_spec({entry.group(1)!r})"
    assert subprocess.run([sys.executable, "-c", found], timeout=200, check=False).returncode == 0


def test_a_store_is_read(folder: Path) -> None:
    path = folder / "autofit.sqlite"
    with sqlite3.connect(path) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM trial ORDER BY at_s")]
        traces = list(connection.execute("SELECT fingerprint, body FROM trace"))
    assert (len(keys), len(traces)) == (9, 12)
    with Store(path) as store:
        remembered = store.remembered()
        assert [one.key.digest for one in remembered] == keys
        for one in remembered:
            assert one.trial in store.recall(one.key)
            assert not store.recall(replace(one.key, global_batch=7))
        for fingerprint, body in traces:
            trace = unpack(Trace, body)
            assert store.get_traces(fingerprint, [trace.of]) == (trace,)
        assert store.trouble is None
