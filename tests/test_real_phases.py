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
seq: 128
batch-size: 8
ranks: 2
micro-batch: 4
zero-stage: 2
gradient-checkpointing: off
lora-r: 8
learning-rate: 1e-3
max-steps: 4
tolerance: 1%  # else so short a training starts without a probe
tasks:
- task: sft
  method: full
- task: reward
  method: lora
  learning-rate: 1e-2
- task: grpo
  method: lora
  reward: [reward, examples/rewards.py:brief=0.5]
  num-generations: 4
  completion-tokens: 16
  save-steps: 2
  max-steps: 10  # enough of them for an interruption to come in time
  arguments: --temperature 0.9
"""


def test_three_tasks_in_a_row_each_on_the_model_of_another_go_on_where_they_were_interrupted(tmp_path: Path) -> None:
    """What rewards is a reward model with its adapter merged, and a function."""
    out = tmp_path / "run"
    sft, reward, grpo = trained_in_two_goes(out, interrupted="3-grpo", step=2)
    models = {name: str(out.resolve() / name) for name in ("1-sft/model", "2-reward/merged")}
    assert _request(out / "2-reward")["model"] == _request(out / "3-grpo")["model"] == models["1-sft/model"]
    rewards = _request(out / "3-grpo")["generation"]["rewards"]
    assert [one["source"] for one in rewards] == [models["2-reward/merged"], f"{ROOT}/examples/rewards.py:brief"]
    assert sft["last_loss"] < sft["first_loss"] - 0.1
    assert reward["last_loss"] < reward["first_loss"] - 0.05
    assert [course["text"] for course in reward["metrics"]] == ["accuracy", "margin"]
    assert [course["text"] for course in grpo["metrics"]] == ["reward"]
    assert (out / "3-grpo/model/adapter_model.safetensors").is_file()


def trained_in_two_goes(out: Path, *, interrupted: str, step: int) -> list[dict[str, Any]]:
    """The results of all phases, the one in the folder `interrupted` being cut off once this step of it is saved, and
    gone on with by the same command."""
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "autofit", "train", "--recipe", str(recipe), "--output-dir", str(out)]
    saved = _interrupt(command, out / interrupted, step)
    finished = {path: path.read_text() for path in out.glob("*/result.json")}
    assert finished
    assert out / interrupted / "result.json" not in finished

    ended = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    phases = json.loads(ended.stdout)["phases"]
    assert [phase["output_dir"] for phase in phases] == [str(run) for run in sorted(out.glob("[0-9]-*"))]
    assert {path: path.read_text() for path in finished} == finished  # none of them was trained again
    assert _first_step(out / interrupted) == saved
    return [phase["result"] for phase in phases]


def _interrupt(command: list[str], run: Path, step: int) -> int:
    """Runs the command until the training of this folder has saved the step, and interrupts it; the step that it saved
    then."""
    process: subprocess.Popen[str] = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    said, is_asked = "", False
    for line in process.stdout:
        said += line
        if not is_asked and f"saved step {step}" in line and str(run) in said:
            process.send_signal(signal.SIGINT)
            is_asked = True
    assert process.wait(120) == 130, said
    saved = max(int(path.name.partition("-")[2]) for path in (run / "checkpoints").glob("checkpoint-*"))
    assert saved > step, said
    return saved


def _request(run: Path) -> dict[str, Any]:
    request: dict[str, Any] = json.loads((run / "request.json").read_text())
    return request


def _first_step(run: Path) -> int:
    """The step that the last start of a training began with."""
    progress = [json.loads(line) for line in (run / "logs/progress.jsonl").read_text().splitlines()]
    step: int = next(entry["step"] for entry in progress if entry["type"] == "TrainingProgress")
    return step
