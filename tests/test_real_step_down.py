"""A real full run that runs out of memory twice, on two CPU ranks, beside one that nothing disturbs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def test_it_comes_to_the_end_by_less_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """By half the micro-batch, then by ZeRO-2, which loads what ZeRO-1 has saved; beside its command.sh."""
    out, marks = tmp_path / "run", tmp_path / "marks"
    marks.mkdir()
    words = ["--model", str(ROOT / "examples/tiny-llama"), "--data", str(ROOT / "examples/dialogues.jsonl")]
    words += [
        "--seq",
        "128",
        "--ranks",
        "2",
        "--batch-size",
        "8",
        "--method",
        "full",
        "--gradient-checkpointing",
        "off",
    ]
    words += ["--learning-rate", "1e-3", "--max-steps", "6", "--save-steps", "2"]
    words += ["--output-dir", str(out)]
    path = os.pathsep.join([str(ROOT / "tests/injected"), os.environ.get("PYTHONPATH", "")])
    faults = {"PYTHONPATH": path, "FAULTS": "1:4 0:6", "FAULT_MARKS": str(marks)}
    ended = subprocess.run(
        [sys.executable, "-m", "autofit", "train", *words],
        env={**os.environ, **faults},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {mark.name for mark in marks.iterdir()} == {"1:4", "0:6"}
    choice = json.loads((out / "choice.json").read_text())
    ran = [one["strategy"] for one in (*choice["step_downs"], choice)]
    assert [(one["rung"]["zero_stage"], one["micro_batch"]) for one in ran] == [(1, 2), (1, 1), (2, 1)], ended.stdout
    said = " ".join(ended.stdout.split())
    assert "step 4 ran out of device memory on rank 1: it goes on from step" in said
    assert "with half the micro-batch (zero1 mb1)" in said

    rerun = subprocess.run([str(out / "command.sh")], capture_output=True, text=True, check=False)
    assert rerun.returncode == 0, rerun.stdout[-2000:] + rerun.stderr[-2000:]
    disturbed, calm = _steps(out), _steps(out / "rerun")
    assert [step["step"] for step in disturbed] == [step["step"] for step in calm] == [1, 2, 3, 4, 5, 6]
    for name in ("learning_rate", "tokens"):
        assert [step[name] for step in disturbed] == [step[name] for step in calm], name
    assert len({step["tokens"] for step in calm}) > 3  # other rows would have been other tokens
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in disturbed] == pytest.approx([step[name] for step in calm], rel=2e-3), name


def _steps(run: Path) -> list[dict[str, Any]]:
    """What the last checkpoint tells of each step, with the tokens that it alone has seen: they are counted from a
    start on."""
    history = json.loads((run / "checkpoints/checkpoint-6/trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in history if "loss" in entry]
    before = 0.0
    for step in steps:
        tokens = step["num_tokens"]
        step["tokens"] = tokens - before if tokens > before else tokens
        before = tokens
    return steps
