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
SHARED = f"""
model: {ROOT}/examples/tiny-llama
seq: 128
batch-size: 8
ranks: 2
micro-batch: 4
zero-stage: 2
gradient-checkpointing: off
lora-r: 8
max-steps: 6
tolerance: 1%  # else so short a training starts without a probe
"""
TWO_OF_TEXT = f"""
- name: facts
  data: {ROOT}/examples/dialogues.jsonl
  method: lora
  learning-rate: 1e-2
- name: style
  data: {ROOT}/examples/dialogues.jsonl
  method: full
  learning-rate: 1e-3
  save-steps: 3
"""


def test_a_second_phase_that_was_interrupted_goes_on_with_the_model_of_the_first(tmp_path: Path) -> None:
    """The first one's adapter is merged for it."""
    out = tmp_path / "run"
    facts, style = trained_in_two_goes(TWO_OF_TEXT, out, interrupted="2-style")
    assert _request(out / "2-style")["model"] == str(out.resolve() / "1-facts/merged")
    # it begins where the first one ended, which began with random weights at 7.6
    assert style["first_loss"] < facts["first_loss"] - 0.2
    assert style["last_loss"] < facts["last_loss"]


def trained_in_two_goes(tasks: str, out: Path, *, interrupted: str) -> list[dict[str, Any]]:
    """The results of all phases, the one in the folder `interrupted` being cut off once its step 3 is saved, and gone
    on with by the same command."""
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(f"{SHARED}tasks:{tasks}")
    command = [sys.executable, "-m", "autofit", "train", "--recipe", str(recipe), "--output-dir", str(out)]
    _interrupt(command, out / interrupted)
    finished = {path: path.read_text() for path in out.glob("*/result.json")}
    assert finished
    assert out / interrupted / "result.json" not in finished

    ended = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    phases = json.loads(ended.stdout)["phases"]
    assert [phase["output_dir"] for phase in phases] == [str(run) for run in sorted(out.glob("[0-9]-*"))]
    assert {path: path.read_text() for path in finished} == finished  # none of them was trained again
    assert _first_step(out / interrupted) == 3
    return [phase["result"] for phase in phases]


def _interrupt(command: list[str], run: Path) -> None:
    """Runs the command until the training of this folder has saved its step 3, and interrupts it."""
    process: subprocess.Popen[str] = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said, is_asked = "", False
    for line in process.stdout:
        said += line
        if not is_asked and "saved step 3" in line and str(run) in said:
            process.send_signal(signal.SIGINT)
            is_asked = True
    assert process.wait(120) == 130, said
    assert (run / "checkpoints/checkpoint-3").is_dir(), said


def _request(run: Path) -> dict[str, Any]:
    request: dict[str, Any] = json.loads((run / "request.json").read_text())
    return request


def _first_step(run: Path) -> int:
    """The step that the last start of a training began with."""
    progress = [json.loads(line) for line in (run / "logs/progress.jsonl").read_text().splitlines()]
    step: int = next(entry["step"] for entry in progress if entry["type"] == "TrainingProgress")
    return step
