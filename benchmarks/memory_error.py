"""Predicted against measured memory: traces and DeepSpeed's terms against allocators that count.

python benchmarks/memory_error.py [--device all|cpu|counted] [--only WORD] [--case NAME] [--table] [--explain]
                                  [--date 2026-11-21]

Prints one JSON object, or a table with --table. Two kinds of truth:

- cpu: the peak of torch's CPU allocator while trl's trainer and DeepSpeed run as rank 0 of 2, 8 or 64 on torch's fake
  process group (a rehearsal). Tiny models of eleven architectures; seven minutes on two busy cores.
- counted: device and host, phase by phase, while DeepSpeed's engine runs on a device that only counts, as the first
  rank and below ZeRO-3 as the last one, too. Models of 0.1B to 70B parameters, offload included; a quarter of an hour,
  in about 1 GB of memory. Its C++ file is compiled at first use, half a minute once a machine.

Nothing to download.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeVar

from _error_figures import figures, percent
from _machine import add_date, header
from _memory_cases import ARCHITECTURES, Case, cases
from _memory_truth import Forker, Truth, build_model, measure, trace_steps

from autofit.domain.errors import AutofitError
from autofit.domain.estimate import MemoryEstimate
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.task import Task
from autofit.domain.trace import Trace
from autofit.planning.memory.activations import micro_step
from autofit.planning.memory.device_share import sized_for
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.setting import Setting

C, R = TypeVar("C"), TypeVar("R")  # a case, and a row of it


@dataclass(frozen=True)
class Row:
    case: Case
    predicted: MemoryEstimate
    truth: Truth

    @property
    def predicted_bytes(self) -> int:
        """Tensors alone: the allocator knows nothing of the process around them."""
        return self.predicted.peak_bytes - self.predicted.runtime_bytes

    @property
    def error(self) -> float:
        """Above 0 when too much was predicted."""
        return self.predicted_bytes / self.truth.peak_bytes - 1

    @property
    def is_inside(self) -> bool:
        runtime_bytes = self.predicted.runtime_bytes
        return self.predicted.low_bytes <= self.truth.peak_bytes + runtime_bytes <= self.predicted.high_bytes

    @property
    def is_above(self) -> bool:
        """More was needed than the interval allows: the one error that costs a user a crash."""
        return self.truth.peak_bytes + self.predicted.runtime_bytes > self.predicted.high_bytes

    @property
    def measured_phase(self) -> str:
        return max(self.truth.by_phase, key=self.truth.by_phase.__getitem__)


class Bench:
    """Models and traces are made once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._forker = Forker(root / "log")
        self._traces: dict[str, tuple[Trace, ...]] = {}

    def row(self, case: Case) -> Row:
        setting = case.setting(self._folder(case.architecture))
        traced = sized_for(case.strategy, replace(setting, traces=self._traced(case, setting)))
        predicted = estimate_memory(case.strategy, traced, is_rehearsal=True)
        return Row(case, predicted, self._forker.call(measure, case, traced))

    def _folder(self, architecture: str) -> Path:
        folder = self._root / architecture
        if not folder.exists():
            self._forker.call(build_model, architecture, str(folder))
        return folder

    def _traced(self, case: Case, setting: Setting) -> tuple[Trace, ...]:
        step = micro_step(case.strategy.rung, case.micro_batch, setting)
        known = self._traces.get(case.architecture, ())
        if not any(trace.of == step for trace in known):
            known += self._forker.call(trace_steps, setting.request.model, [step])
            self._traces[case.architecture] = known
        return known


def main() -> None:
    options = _options()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # DeepSpeed prints what it builds
    body, result = header("memory_error", options.date), {}
    names: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        for device in ("cpu", "counted") if options.device == "all" else (options.device,):
            try:
                told = _DEVICES[device](Path(root, device), options, answer)
            except AutofitError as error:
                sys.exit(f"memory_error.py: {error}")
            names += told.pop("names")
            result |= told
    if not names:
        sys.exit("memory_error.py: no case has that name; --table --only Llama shows how they are called")
    print(json.dumps(result if options.table else body | result, indent=2), file=answer)
    answer.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("all", *_DEVICES), default="all", help="the cases of this kind of truth")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--case", action="append", help="only the case of exactly this name; may be repeated")
    parser.add_argument("--table", action="store_true", help="lines for people instead of JSON")
    parser.add_argument("--explain", action="store_true", help="on the counted device, who holds what at each peak")
    add_date(parser)
    return parser.parse_args()


def _is_chosen(case: object, options: argparse.Namespace) -> bool:
    return options.only in str(case) and (options.case is None or str(case) in options.case)


def _on_cpu(root: Path, options: argparse.Namespace, answer: IO[str]) -> dict[str, Any]:
    chosen = [case for case in cases() if _is_chosen(case, options)]
    root.mkdir()
    bench, rows = Bench(root), []
    for row in measured(bench.row, chosen):
        rows.append(row)
        if options.table:
            print(line(row), file=answer, flush=True)
    told = summary(rows) if rows else {}
    if not options.table:
        told["cases"] = [entry(row) for row in rows]
    return told | {"names": chosen}


def _on_counted_device(root: Path, options: argparse.Namespace, answer: IO[str]) -> dict[str, Any]:
    from _counted_cases import counted_cases

    chosen = [case for case in counted_cases() if _is_chosen(case, options)]
    if not chosen:
        return {"names": []}
    # These import torch and DeepSpeed.
    from _counted_report import counted_entry, counted_lines, counted_summary
    from _counted_rows import CountedBench

    bench, rows = CountedBench(root, is_explained=options.explain), []
    for row in measured(bench.row, chosen):
        rows.append(row)
        if options.table:
            print(*counted_lines(row), sep="\n", file=answer, flush=True)
    told = counted_summary(rows) if rows else {}
    if not options.table:
        told["cases"] = [counted_entry(row) for row in rows]
    return {"counted": told, "names": chosen}


_DEVICES = {"cpu": _on_cpu, "counted": _on_counted_device}


def measured(measure_row: Callable[[C], R], chosen: Sequence[C]) -> Iterator[R]:
    """Cases that cannot be run are named on stderr and left out."""
    for case in chosen:
        try:
            yield measure_row(case)
        except RuntimeError as error:
            print(f"{case}: {error}", file=sys.stderr, flush=True)


def summary(rows: Sequence[Row]) -> dict[str, object]:
    groups = {name: [row for row in rows if belongs(row.case)] for name, belongs in _groups().items()}
    return {
        "all": figures([row.error for row in rows]),
        "beyond_interval": [str(row.case) for row in rows if row.is_above],
        "below_interval": [str(row.case) for row in rows if not row.is_inside and not row.is_above],
        "groups": {name: figures([row.error for row in group]) for name, group in groups.items() if group},
    }


def _groups() -> dict[str, Callable[[Case], bool]]:
    return {
        "plain data parallel": lambda case: case.zero_stage == 0,
        **{f"ZeRO-{stage}": lambda case, stage=stage: case.zero_stage == stage for stage in (1, 2, 3)},
        "1 rank": lambda case: case.rank_count == 1,
        **{f"{count} ranks": lambda case, count=count: case.rank_count == count for count in (2, 8, 64)},
        "LoRA": lambda case: case.method is Method.LORA,
        "gradient checkpointing": lambda case: case.gradient_checkpointing.recomputes,
        "every second layer": lambda case: case.gradient_checkpointing is GradientCheckpointing.EVERY_2,
        "attention's output kept": lambda case: case.gradient_checkpointing is GradientCheckpointing.SELECTIVE,
        "8- and 4-bit AdamW, Lion, SGD": lambda case: _is_lean(case.optimizer),
        "LOMO, AdaLomo": lambda case: case.optimizer.is_fused,
        "base in NF4 or int8": lambda case: case.quantization is not Quantization.NONE,
        "eager attention": lambda case: case.attention is Attention.EAGER,
        "DPO, KTO": lambda case: case.task in (Task.DPO, Task.KTO),
        "GRPO": lambda case: case.task is Task.GRPO,
        "reward models": lambda case: case.task is Task.REWARD,
        **{name: lambda case, name=name: case.architecture == name for name in ARCHITECTURES},
    }


def _is_lean(optimizer: Optimizer) -> bool:
    return optimizer is not Optimizer.ADAMW and not optimizer.is_fused


def entry(row: Row) -> dict[str, object]:
    return {
        **row.case.fields(),
        "predicted_bytes": row.predicted_bytes,
        "measured_bytes": row.truth.peak_bytes,
        "error_percent": percent(row.error),
        "is_inside": row.is_inside,
        "predicted_phase": row.predicted.phase.value,
        "measured_phase": row.measured_phase,
    }


def line(row: Row) -> str:
    phases = f"{row.predicted.phase.value}/{row.measured_phase}"
    sizes = f"{row.predicted_bytes / 1e6:8.2f} {row.truth.peak_bytes / 1e6:8.2f} MB"
    return f"{row.case!s:58} {sizes} {100 * row.error:+6.2f} % {'in' if row.is_inside else 'OUT'} {phases}"


if __name__ == "__main__":
    main()
