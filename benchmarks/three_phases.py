"""The study's table of three phases: each optimization alone, and whether its four findings hold here.

python benchmarks/three_phases.py [--tasks sft,reward,dpo,grpo] [--only measured|predicted] [--out FILE]
                                  [--date 2026-11-26]

Measured by probes on two CPU ranks: a model of OPT's architecture, scaled down to what two cores train. Predicted, with
nothing run: facebook/opt-350m's own shape on 1, 2 and 4 A100-40GB and V100-32GB, rows of 512 tokens, 32 a step. Both by
`autofit compare`. trl has no PPO any more, so the third phase is GRPO's, and DPO stands beside it. Energy is told where
RAPL can be read. Prints the tables and the verdicts, which the figures alone decide, and writes a JSON object; a task
that cannot be compared stands in it with the reason. Three minutes for what is measured, on two cores with nothing else
to do; the traces of what is predicted take some more the first time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _machine import add_date, header
from _opt_model import OPT_350M, write_scaled_model
from _study_findings import Finding, findings

from autofit.app import compare
from autofit.domain.comparison import Comparison
from autofit.domain.errors import AutofitError
from autofit.domain.request import Generation, Request, Reward
from autofit.domain.task import Task
from autofit.report.comparison.comparison_json import comparisons_body
from autofit.report.comparison.comparison_screen import comparisons_lines
from autofit.report.line import plain

RESULTS = Path(__file__).with_name("results")
REWARD = Path(__file__).parents[1] / "examples/rewards.py"
RANKS = 2
MACHINES = tuple(f"{count}x{card}" for card in ("A100-40GB", "V100-32GB") for count in (1, 2, 4))


@dataclass(frozen=True)
class Part:
    """What one way of comparing came to: a comparison for each machine, and the tasks that none could be had of."""

    comparisons: tuple[Comparison, ...]
    left_out: dict[str, str]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return findings(self.comparisons)


def main() -> None:
    options = _options()
    opening = header("three-phases", options.date)
    ways = {"measured": _measured, "predicted": _predicted}
    parts = {name: way(options.tasks) for name, way in ways.items() if options.only in (None, name)}
    for name, part in parts.items():
        print_part(name, part)
    result = opening | {"ratio": "baseline / strategy"} | {name: body(part) for name, part in parts.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=_tasks, default="sft,reward,dpo,grpo", help="the phases, a comma between them")
    parser.add_argument("--only", choices=("measured", "predicted"), help="one of the two; both unless told")
    parser.add_argument("--out", type=Path, help="where the JSON goes; results/DATE-three-phases-cpuN.json")
    add_date(parser)
    options = parser.parse_args()
    options.out = options.out or RESULTS / f"{options.date}-three-phases-cpu{len(os.sched_getaffinity(0))}.json"
    return options


def _tasks(text: str) -> tuple[Task, ...]:
    return tuple(Task(word) for word in text.split(","))


def _measured(tasks: Sequence[Task]) -> Part:
    with tempfile.TemporaryDirectory(prefix="three-phases-") as name:
        folder = Path(name)
        request = Request(
            str(write_scaled_model(folder / "opt-scaled")),
            sequence_length=256,
            global_batch=8,
            ranks=RANKS,
            generation=Generation(count=4, completion_tokens=32, rewards=(Reward(f"{REWARD}:brief"),)),
        )
        return each(tasks, lambda task: (_probed(request, task, folder / "runs"),))


def _probed(request: Request, task: Task, output_dir: Path) -> Comparison:
    found = compare.measure(request, [task], output_dir=output_dir, tell=_tell)
    if not found.tasks[0].baseline.cost.is_measured:
        raise AutofitError("nothing fits in the ranks here")
    return found


def _predicted(tasks: Sequence[Task]) -> Part:
    generation = Generation(count=8, rewards=(Reward("a reward function"),))  # predictions ask none
    request = Request(str(OPT_350M), sequence_length=512, global_batch=32, generation=generation)
    return each(tasks, lambda task: compare.predict(request, [task], MACHINES, tell=_tell))


def each(tasks: Sequence[Task], way: Callable[[Task], tuple[Comparison, ...]]) -> Part:
    """The tasks one after the other, so that one that cannot be compared leaves the others."""
    found: list[tuple[Comparison, ...]] = []
    left_out: dict[str, str] = {}
    for task in tasks:
        try:
            found.append(way(task))
        except AutofitError as error:
            left_out[task.value] = str(error)
    return Part(tuple(_joined(on_one_machine) for on_one_machine in zip(*found, strict=True)), left_out)


def _joined(of_tasks: Sequence[Comparison]) -> Comparison:
    return replace(
        of_tasks[0],
        tasks=tuple(task for one in of_tasks for task in one.tasks),
        notes=tuple(dict.fromkeys(note for one in of_tasks for note in one.notes)),
    )


def body(part: Part) -> dict[str, Any]:
    return {
        "machines": [_machine_body(one) for one in comparisons_body(part.comparisons)["machines"]],
        "left_out": part.left_out,
        "findings": [
            {"finding": one.text, "verdict": one.verdict.value, "figures": list(one.figures)} for one in part.findings
        ],
    }


def _machine_body(one: dict[str, Any]) -> dict[str, Any]:
    """A comparison's JSON but for what is the same in all of them."""
    model = one["model"]
    return {
        "machine": [device["name"] for node in one["hardware"]["nodes"] for device in node["devices"]],
        "model": {"name": Path(model["name"]).name, "parameter_count": model["parameter_count"]},
        "tasks": [{key: value for key, value in task.items() if key != "request"} for task in one["tasks"]],
        "good_in_all": one["good_in_all"],
        "best_in_all": one["best_in_all"],
    }


def print_part(name: str, part: Part) -> None:
    print(f"\n== {name} ==\n")
    if part.comparisons:
        print(plain(comparisons_lines(part.comparisons)))
    for task, why in part.left_out.items():
        print(f"\n{task}: left out: {why}")
    print("\nthe study's findings:")
    for one in part.findings:
        print(f"  {one.verdict.value:10} {one.text}")


def _tell(text: str) -> None:
    """Progress goes where it does not mix with the result."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
