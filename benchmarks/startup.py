"""How long autofit takes to answer `--help`, next to `deepspeed --help` and a bare `import torch`.

python benchmarks/startup.py [--repeats 7] [--date 2026-11-21]
python benchmarks/startup.py --quickstart [--beside CHECKOUT] [--rounds 3]

With `--quickstart` it times the training of `bin/quickstart` instead, on two CPU ranks, with a cold and with a warm
store: from the command to the first step, and from the last step to the model; beside another checkout of autofit,
such as `git worktree add ../before COMMIT` makes one. Four minutes a round and checkout.

Prints one JSON object. The commands take turns, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from _machine import add_date, header
from _quickstart_run import HERE, compare

_BIN = Path(sys.executable).parent
_COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],  # what no Python program can beat
    "autofit --help": [str(_BIN / "autofit"), "--help"],
    "autofit train --help": [str(_BIN / "autofit"), "train", "--help"],
    "deepspeed --help": [str(_BIN / "deepspeed"), "--help"],
    "import torch": [sys.executable, "-c", "import torch"],
}
_OURS = ("autofit --help", "autofit train --help")
_OTHERS = ("deepspeed --help", "import torch")


class Cost(NamedTuple):
    cpu_s: float  # user and system, of the command and of what it started and waited for
    wall_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count; one more warms the page cache")
    parser.add_argument("--quickstart", action="store_true", help="the training of bin/quickstart, not --help")
    parser.add_argument("--beside", type=Path, help="another checkout, for --quickstart")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each kind, for --quickstart")
    add_date(parser)
    options = parser.parse_args()
    if options.quickstart:
        trees = {"here": HERE} | ({"beside": options.beside.resolve()} if options.beside else {})
        found = header("startup-quickstart", options.date) | compare(trees, options.rounds)
    else:
        found = header("startup", options.date) | help_costs(options.repeats)
    print(json.dumps(found, indent=2))


def help_costs(repeats: int) -> dict[str, object]:
    """The median cost of every command, and how many times as much the others take as ours."""
    costs = measure(repeats)
    medians = {name: _median(each) for name, each in costs.items()}
    ratios = {
        f"{other} / {own}": {part: round(_ratio(medians[other], medians[own], part), 1) for part in Cost._fields}
        for own in _OURS
        for other in _OTHERS
    }
    median = {name: Cost(*(round(part, 4) for part in cost))._asdict() for name, cost in medians.items()}
    return {"repeats": repeats, "median": median, "ratios": ratios}


def measure(repeats: int) -> dict[str, list[Cost]]:
    """By command; the first round is thrown away."""
    rounds = [{name: cost_of(command) for name, command in _COMMANDS.items()} for _ in range(repeats + 1)]
    return {name: [each[name] for each in rounds[1:]] for name in _COMMANDS}


def cost_of(command: list[str]) -> Cost:
    """Runs `command` to its end, its output thrown away."""
    environment = os.environ | {"PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}"}
    began_at_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began_at_s
    process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, behind its back
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return Cost(used.ru_utime + used.ru_stime, wall_s)


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(part) for part in zip(*costs, strict=True)))


def _ratio(one: Cost, other: Cost, part: str) -> float:
    return float(getattr(one, part) / getattr(other, part))


if __name__ == "__main__":
    main()
