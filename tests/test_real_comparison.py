"""A comparison by real probes on two CPU ranks: the baseline's ratios, and what pins leave out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MODEL = Path(__file__).parents[1] / "examples/tiny-llama"
PINS = ["--method", "full", "--gradient-checkpointing", "off", "--offload", "none", "--lora-r", "8"]


def test_zero_divides_what_plain_data_parallel_holds_twice(tmp_path: Path) -> None:
    """Plain torch holds 16 bytes of each parameter at least: weights, gradients and moments in fp32. ZeRO-2 on two
    ranks holds 2 of weights, 2 of gradients and half of the 12 of masters and moments at most: 6 bytes less."""
    words = ["compare", "--model", str(MODEL), "--ranks", "2", "--memory-limit", "2GB", "--seq", "128"]
    done = subprocess.run(
        [sys.executable, "-m", "autofit", *words, "--batch-size", "4", *PINS, "--json"],
        capture_output=True, text=True, check=False, timeout=600, cwd=tmp_path,
        env={**os.environ, "AUTOFIT_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    (machine,) = json.loads(done.stdout)["machines"]
    (task,) = machine["tasks"]
    rows = {row["optimization"]: row for row in task["rows"]}
    saved_bytes = task["baseline"]["peak_device_bytes"] - rows["zero2"]["peak_device_bytes"]
    assert task["baseline"]["strategy"].startswith("zero0")
    assert task["baseline"]["is_measured"]
    assert {rows[name]["standing"] for name in ("zero1", "zero2", "zero3")} == {"compared"}
    assert saved_bytes > 6 * machine["model"]["parameter_count"]
    assert {rows[name]["standing"] for name in ("checkpointing", "lora", "offload")} == {"not_compared"}
    assert task["best"]["memory"] in ("zero1", "zero2", "zero3")
    assert len((tmp_path / "autofit-runs/compare-tiny-llama-128/sft/trials.jsonl").read_text().splitlines()) == 4
