"""Several trainings in a row on two CPU ranks with real DeepSpeed, interrupted in the middle and gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
RECIPE = f"""
model: {ROOT}/examples/tiny-llama
data: {ROOT}/examples/dialogues.jsonl
seq: 128
batch-size: 8
ranks: 2
micro-batch: 4
zero-stage: 2
gradient-checkpointing: off
lora-r: 8
tolerance: 1%
tasks:
- name: facts
  method: lora
  learning-rate: 1e-2
  max-steps: 6
- name: style
  method: full
  learning-rate: 1e-3
  max-steps: 6
  save-steps: 3
"""


def test_a_second_phase_that_was_interrupted_goes_on_with_the_model_of_the_first(tmp_path: Path) -> None:
    """The first one's adapter is merged for it; what is finished is not trained again, and one object has both."""
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "autofit", "train", "--recipe", str(recipe), "--output-dir", str(out)]
    said = _interrupted_at_a_checkpoint_of(command, "phase    2 of 2, style")
    first = (out / "1-facts/result.json").read_text()
    assert (out / "2-style/checkpoints/checkpoint-3").is_dir(), said
    assert not (out / "2-style/result.json").exists()

    ended = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    body = json.loads(ended.stdout)
    assert (out / "1-facts/result.json").read_text() == first
    assert [phase["phase"] for phase in body["phases"]] == ["facts", "style"]
    facts, style = body["phases"]
    assert style["request"] is None  # it was searched before
    asked = json.loads((out / "2-style/request.json").read_text())
    assert asked["model"] == str(out.resolve() / "1-facts/merged")
    assert style["result"]["step_count"] == 6
    # it begins where the first one ended: 7.6 is the loss of random weights
    assert style["result"]["first_loss"] < facts["result"]["first_loss"] - 0.2
    assert style["result"]["last_loss"] < facts["result"]["last_loss"]
    progress = [json.loads(line) for line in (out / "2-style/logs/progress.jsonl").read_text().splitlines()]
    assert next(entry["step"] for entry in progress if entry["type"] == "TrainingProgress") == 3


def _interrupted_at_a_checkpoint_of(command: list[str], phase: str) -> str:
    """What the command said until it was interrupted, once the phase had saved its step 3."""
    process: subprocess.Popen[Any] = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said, is_asked = "", False
    for line in process.stdout:
        said += line
        if not is_asked and phase in said and "saved step 3" in said.partition(phase)[2]:
            process.send_signal(signal.SIGINT)
            is_asked = True
    assert process.wait(120) == 130, said
    return said
