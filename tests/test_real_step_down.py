"""A real full run that runs out of memory twice, and one on fewer ranks, beside one that nothing disturbs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from autofit.domain.outcome import Phase
from tests.faults.saboteur import Action, Order, read_struck
from tests.faults.surroundings import Surroundings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def test_it_comes_to_the_end_by_less_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """By half the micro-batch, then by ZeRO-2, which loads what ZeRO-1 has saved; beside its command.sh, from whose
    checkpoint one rank goes on to the same losses."""
    out, alone = tmp_path / "run", tmp_path / "alone"
    # step 4 after two micro-batches a step; from step 2 on step 6 after four
    orders = (_full(rank=1, forward=7), _full(rank=0, forward=13))
    ended = _train(out, "--ranks", "2", orders=orders)
    choice = json.loads((out / "choice.json").read_text())
    ran = [one["strategy"] for one in (*choice["step_downs"], choice)]
    assert [(one["rung"]["zero_stage"], one["micro_batch"]) for one in ran] == [(1, 2), (1, 1), (2, 1)], ended
    assert "step 4 ran out of device memory on rank 1: it goes on from step" in ended
    assert "with half the micro-batch (zero1 mb1)" in ended

    rerun = subprocess.run([str(out / "command.sh")], capture_output=True, text=True, check=False)
    assert rerun.returncode == 0, rerun.stdout[-2000:] + rerun.stderr[-2000:]
    calm = _steps(out / "rerun")
    assert [step["step"] for step in calm] == [1, 2, 3, 4, 5, 6]
    assert len({step["tokens"] for step in calm}) > 3  # other rows would have been other tokens
    _check_alike(_steps(out), calm)

    checkpoint = out / "rerun/checkpoints/checkpoint-4"
    before = sorted(checkpoint.rglob("*"))
    ended = _train(alone, "--ranks", "1", "--resume", str(checkpoint))
    assert "is divided among 2 ranks: it is made universal, for 1" in ended
    _check_alike(_steps(alone), calm)
    assert sorted(checkpoint.rglob("*")) == before
    assert not list((alone / "checkpoints").glob("universal-*"))


@pytest.mark.matrix
@pytest.mark.parametrize("zero_stage", [2, 3])
def test_a_run_folder_goes_on_on_fewer_ranks(zero_stage: int, tmp_path: Path) -> None:
    """Ended by a fault after step 2 was saved; beside its command.sh, which nothing disturbs."""
    out = tmp_path / "run"
    words = ["--zero-stage", str(zero_stage), "--micro-batch", "2", "--no-step-down", "--", "--weight_decay", "0.1"]
    ended = _train(out, "--ranks", "2", *words, exit_code=1, orders=(_full(rank=1, forward=7),))
    assert "out of device memory" in ended
    ended = _train(out, "--ranks", "1", *words)
    assert "checkpoint-2 is divided among 2 ranks: it is made universal, for 1" in ended
    rerun = subprocess.run([str(out / "command.sh")], capture_output=True, text=True, check=False)
    assert rerun.returncode == 0, rerun.stdout[-2000:] + rerun.stderr[-2000:]
    _check_alike(_steps(out), _steps(out / "rerun"))


def _full(*, rank: int, forward: int) -> Order:
    """The rank's device is full at that micro-batch of a full run."""
    return Order(Action.DEVICE_MEMORY, Phase.FORWARD.value, rank, forward, is_of_full_run=True)


def _train(out: Path, *words: str, exit_code: int = 0, orders: Sequence[Order] = ()) -> str:
    """What a training of six steps said, on one line, while all of the orders were carried out."""
    command = ["--model", str(ROOT / "examples/tiny-llama"), "--data", str(ROOT / "examples/dialogues.jsonl")]
    command += ["--seq", "128", "--batch-size", "8", "--method", "full", "--gradient-checkpointing", "off"]
    command += ["--learning-rate", "1e-3", "--max-steps", "6", "--save-steps", "2", "--output-dir", str(out), *words]
    surroundings = Surroundings(out.parent)
    with surroundings.entered(*orders):
        ended = subprocess.run(
            [sys.executable, "-m", "autofit", "train", *command],
            env={**os.environ, "AUTOFIT_CACHE": str(out.parent / "cache")},  # its own choice
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    shutil.rmtree(surroundings.temporary)
    log = out / "logs/training.log"
    assert ended.returncode == exit_code, (
        ended.stdout + ended.stderr + (log.read_text()[-4000:] if log.exists() else "")
    )
    assert all(read_struck(surroundings.orders, number) for number in range(len(orders)))
    return " ".join((ended.stdout + ended.stderr).split())


def _check_alike(steps: list[dict[str, Any]], calm: list[dict[str, Any]]) -> None:
    """The same steps, learning rates and rows, and losses that differ by the order of sums alone."""
    for name in ("step", "learning_rate", "tokens"):
        assert [step[name] for step in steps] == [step[name] for step in calm], name
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in steps] == pytest.approx([step[name] for step in calm], rel=2e-3), name


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
