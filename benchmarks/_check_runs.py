"""Whole commands as a user types them, on the tiny model of examples/: what they say, and what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from _check import Say
from _left_behind import MARK, Traces

from autofit.domain.hardware import DeviceKind
from autofit.runs.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
_DATA = ("--data", "examples/dialogues.jsonl")
_TRAIN = ("train", "--model", "examples/tiny-llama", "--seq", "256", *_DATA, "--batch-size", "32")
_ADVICE = "its last lines stand above; run it by hand and look into the logs of its folder"


def train(kind: DeviceKind, say: Say) -> None:
    """A search and a training with evaluation and checkpoints, and another that goes on from one of these."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        flags = (*_TRAIN, "--method", "full", "--learning-rate", "1e-3", "--save-steps", "6")
        evaluated = ("--eval-data", "examples/dialogues-eval.jsonl")
        if _ends_well(say, kind, *flags, *evaluated, "--max-steps", "12", "--output-dir", str(first)):
            _tell_training(say, first)
            checkpoint = str(first / "checkpoints" / "checkpoint-6")
            if _ends_well(
                say, kind, *flags, *evaluated, "--max-steps", "12", "--resume", checkpoint, "--output-dir", str(second)
            ):
                _say_same_end(say, first, second)


def _say_same_end(say: Say, first: Path, second: Path) -> None:
    losses = [_result(folder)["last_loss"] for folder in (first, second)]
    is_same = abs(losses[0] - losses[1]) < 0.02 * losses[0]
    text = f"the last loss is {losses[0]:.4f}, resumed from the middle {losses[1]:.4f}"
    say(is_same, text, "a resumed training goes another way: report it", losses=losses)


def merge(kind: DeviceKind, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        out = RunFolder(Path(folder, "run"))
        words = ("--method", "lora", "--merge", "--max-steps", "4", "--output-dir", str(out.root))
        if _ends_well(say, kind, *_TRAIN, *words):
            _tell_training(say, out.root)
            saved = sorted(path.name for path in out.merged.glob("*.safetensors"))
            say(bool(saved), f"merged: {', '.join(saved)}", "the merged model is not there: see logs/merge.log")


def drop_in(kind: DeviceKind, say: Say) -> None:
    """A script that knows nothing of autofit, in the place of `deepspeed`."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        script = ("examples/deepspeed/plain_loop.py", "--deepspeed_config", "examples/deepspeed/ds_plain.json")
        _ends_well(say, kind, "--num_gpus", "1", *script, "--steps", "6", "--output_dir", folder)


def _ends_well(say: Say, kind: DeviceKind, *words: str) -> bool:
    """Runs `autofit` with `words`: it must end with 0 and leave nothing running."""
    if not (ROOT / "examples/tiny-llama/model.safetensors").exists():
        subprocess.run([sys.executable, "examples/make_tiny_model.py"], cwd=ROOT, check=True)
    mark = uuid.uuid4().hex
    before, began_at_s = Traces.now(mark), time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "autofit", *words],
        cwd=ROOT,
        env=_environment(kind, mark),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    took_s = time.monotonic() - began_at_s
    name = f"autofit {' '.join(words[:2])} …"
    say(
        ended.returncode == 0,
        f"{name} ended with {ended.returncode} after {took_s:.0f} s",
        _ADVICE,
        total_s=round(took_s, 1),
    )
    left = sorted(Traces.settled(mark).processes - before.processes)
    say(not left, f"it left {', '.join(left) or 'no process'} behind", "end what is named, and report it")
    return ended.returncode == 0


def _environment(kind: DeviceKind, mark: str) -> dict[str, str]:
    device = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""} if kind is DeviceKind.CPU else {}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {**os.environ, **offline, **device, MARK: mark}


def _result(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def _tell_training(say: Say, folder: Path) -> None:
    result = _result(folder)
    choice = RunFolder(folder).read_choice()
    assert choice is not None
    losses = f"loss {result['first_loss']:.3f} to {result['last_loss']:.3f}"
    say(
        result["last_loss"] < result["first_loss"],
        f"{choice.strategy}: {losses}, {result['tokens_per_s']:,.0f} tokens/s",
        "the loss does not fall: report it",
        peak_device_bytes=result["peak_device_bytes"],
        tokens_per_s=result["tokens_per_s"],
    )
