"""What it costs that `autofit` stands where `deepspeed` stood: the same job by both, without a search.

python benchmarks/hand_over.py [--repeats 7] [--date 2026-11-21]

Prints one JSON object. The programs take turns, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _machine import add_date, header

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count; one more warms the page cache")
    add_date(parser)
    options = parser.parse_args()
    body = header("hand_over", options.date) | {"repeats": options.repeats, "rank_count": _RANKS, "aim": _AIM}
    print(json.dumps(body | {"jobs": {name: measure(text, options.repeats) for name, text in _JOBS.items()}}, indent=2))


def measure(script: str, repeats: int) -> dict[str, object]:
    """`longer` is the median of ours ÷ the median of theirs; `pairs` the same for each round. Seconds of wall clock."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "job.py").write_text(script)
        rounds = [_round(Path(folder), number) for number in range(repeats + 1)][1:]
    medians = {name: statistics.median(each[name] for each in rounds) for name in _PROGRAMS}
    return {
        "median_s": {name: round(median_s, 3) for name, median_s in medians.items()},
        "longer": round(medians[_OURS] / medians[_THEIRS], 4),
        "pairs": [round(each[_OURS] / each[_THEIRS], 4) for each in rounds],
    }


def _round(folder: Path, number: int) -> dict[str, float]:
    """Seconds by program; who goes first changes from round to round."""
    names = list(_PROGRAMS) if number % 2 else list(reversed(_PROGRAMS))
    return {name: _seconds_of(_PROGRAMS[name], folder) for name in names}


def _seconds_of(program: list[str], folder: Path) -> float:
    """One job to its end, its output thrown away."""
    environment = os.environ | {
        "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
        "DS_ACCELERATOR": "cpu",
        "LOCAL_SIZE": str(_RANKS),
        "OMP_NUM_THREADS": "1",
    }
    command = [*program, "--master_port", str(random.randint(20000, 60000)), "job.py"]
    began_at_s = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    total_s = time.perf_counter() - began_at_s
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
    return total_s


if __name__ == "__main__":
    main()
