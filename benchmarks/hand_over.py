"""What it costs that `autofit` stands where `deepspeed` stood: the same job by both, without a search.

python benchmarks/hand_over.py [--repeats 7] [--date 2026-11-21]

Prints one JSON object. The programs take turns, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from _machine import add_date, header

from autofit.process.rendezvous import free_port, remove_shared_memory

_BIN = Path(sys.executable).parent
_PROGRAMS = {
    "deepspeed": [str(_BIN / "deepspeed")],
    "autofit --autofit-off": [str(_BIN / "autofit"), "--autofit-off"],
}
_OURS, _THEIRS = "autofit --autofit-off", "deepspeed"
_AIM = 1.05
_RANKS = 2

_TRIVIAL = "import sys\n"
_TRAINING = """
import deepspeed, torch
model = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(4)))
config = {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 2},
          "optimizer": {"type": "Adam", "params": {"torch_adam": True}}}
engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
for _ in range(20):
    loss = engine(torch.randn(4, 256)).square().mean()
    engine.backward(loss)
    engine.step()
"""
_JOBS = {"trivial": _TRIVIAL, "training": _TRAINING}


class Cost(NamedTuple):
    wall_s: float
    cpu_s: float  # user and system, of the command and of everything under it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count; one more warms the page cache")
    add_date(parser)
    options = parser.parse_args()
    body = header("hand_over", options.date) | {"repeats": options.repeats, "rank_count": _RANKS, "aim": _AIM}
    print(json.dumps(body | {"jobs": {name: measure(text, options.repeats) for name, text in _JOBS.items()}}, indent=2))


def measure(script: str, repeats: int) -> dict[str, object]:
    """`longer` is the median of ours ÷ the median of theirs; `pairs` the same of the wall clock for each round."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "job.py").write_text(script)
        rounds = [_round(Path(folder), number) for number in range(repeats + 1)][1:]
    medians = {name: _median([each[name] for each in rounds]) for name in _PROGRAMS}
    return {
        "median": {name: cost._asdict() for name, cost in medians.items()},
        "longer": _ratio(medians[_OURS], medians[_THEIRS])._asdict(),
        "pairs": [_ratio(each[_OURS], each[_THEIRS]).wall_s for each in rounds],
    }


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(round(statistics.median(part), 3) for part in zip(*costs, strict=True)))


def _ratio(one: Cost, other: Cost) -> Cost:
    return Cost(*(round(mine / its, 4) for mine, its in zip(one, other, strict=True)))


def _round(folder: Path, number: int) -> dict[str, Cost]:
    """By program; who goes first changes from round to round."""
    names = list(_PROGRAMS) if number % 2 else list(reversed(_PROGRAMS))
    return {name: _cost_of(_PROGRAMS[name], folder) for name in names}


def _cost_of(program: list[str], folder: Path) -> Cost:
    """One job to its end, its output thrown away."""
    environment = os.environ | {
        "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
        "DS_ACCELERATOR": "cpu",
        "LOCAL_SIZE": str(_RANKS),
        "OMP_NUM_THREADS": "1",
    }
    port = str(free_port())
    command = [*program, "--master_port", port, "job.py"]
    began_at_s, before_s = time.perf_counter(), _children_s()
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cost = Cost(time.perf_counter() - began_at_s, _children_s() - before_s)
    remove_shared_memory(port)  # which plain DeepSpeed leaves behind
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
    return cost


def _children_s() -> float:
    """CPU time of the processes below this one that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
