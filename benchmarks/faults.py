"""What becomes of every fault that the tests declare: how it is told, how soon, and what it costs to go on.

python benchmarks/faults.py [--only WORD] [--table] [--date 2026-11-26]

Prints one JSON object, with --table a line for each fault on stderr as well. The faults are those of
tests/faults/kinds.py: a probe's with one warm agent, a full run's each with the same training started again. Half an
hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median

from _machine import add_date, header

from autofit.domain.event import TrainingEnded

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.faults.bench import ProbeBench, RunBench, Seen
from tests.faults.fault import Fault
from tests.faults.job import Inputs
from tests.faults.kinds import PROBE_FAULTS, PROBE_FAULTS_ALWAYS, PROBE_SILENCE_S, RUN_FAULTS, RUN_FAULTS_ALWAYS


@dataclass(frozen=True)
class Row:
    """`recovered_s`: from the start of the same training until it is beyond the step in which it was struck, or has
    saved its model; None of a probe, after which the search goes on, and of what went on by itself."""

    fault: str
    of: str
    told_as: str
    sentence: str
    is_as_declared: bool
    detected_s: float | None
    recovered_s: float | None = None
    steps_repeated: int | None = None
    left_behind: tuple[str, ...] = ()


def main() -> None:
    options = _options()
    rows = []
    with redirect_stdout(sys.stderr):  # libraries log there
        for row in _rows(options.only):
            rows.append(row)
            if options.table:
                print(_line(row), flush=True)
    result = header("faults", options.date) | {"summary": _summary(rows), "rows": [asdict(row) for row in rows]}
    print(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORD", default="", help="faults with this in their name")
    parser.add_argument("--table", action="store_true", help="a line for each fault as it is done")
    add_date(parser)
    return parser.parse_args()


def _rows(only: str) -> Iterator[Row]:
    probed = [fault for fault in (*PROBE_FAULTS_ALWAYS, *PROBE_FAULTS) if only in f"probe {fault}"]
    trained = [fault for fault in (*RUN_FAULTS_ALWAYS, *RUN_FAULTS) if only in f"full run {fault}"]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        inputs = Inputs.make(Path(folder))
        rows = _of_probes(inputs, probed, Path(folder, "probes")) if probed else iter(())
        runs = (_of_full_run(inputs, fault, Path(folder, f"run{number}")) for number, fault in enumerate(trained))
        for row in chain(rows, runs):
            yield replace(row, sentence=row.sentence.replace(f"{folder}/", ""))


def _of_probes(inputs: Inputs, faults: Sequence[Fault], folder: Path) -> Iterator[Row]:
    folder.mkdir()
    with ProbeBench.started(inputs, folder) as bench:
        for number, fault in enumerate(faults):
            own = folder / str(number)
            own.mkdir()
            yield _row("probe", fault, bench.meet(fault, own, silence_s=PROBE_SILENCE_S))


def _of_full_run(inputs: Inputs, fault: Fault, folder: Path) -> Row:
    folder.mkdir()
    bench = RunBench(inputs, folder)
    struck = bench.train(fault)
    if isinstance(struck.end, TrainingEnded):
        return _row("full run", fault, struck)
    again = bench.train()
    reached = max((step for step, _ in struck.steps), default=0)
    from_step = min((step for step, _ in again.steps), default=0)
    beyond_s = next((after_s for step, after_s in again.steps if step > reached), None)
    ended_s = again.end.total_s if isinstance(again.end, TrainingEnded) else None
    return _row("full run", fault, struck, beyond_s or ended_s, max(0, reached - from_step))


def _row(of: str, fault: Fault, seen: Seen, recovered_s: float | None = None, steps_repeated: int | None = None) -> Row:
    return Row(
        fault=str(fault),
        of=of,
        told_as=type(seen.end).__name__,
        sentence=seen.sentence.replace("\n", " "),
        is_as_declared=fault.has_told(seen.end, seen.sentence) and not seen.left,
        detected_s=_rounded(seen.detected_s),
        recovered_s=_rounded(recovered_s),
        steps_repeated=steps_repeated,
        left_behind=seen.left,
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _summary(rows: Sequence[Row]) -> dict[str, object]:
    detected_s = [row.detected_s for row in rows if row.detected_s is not None]
    recovered_s = [row.recovered_s for row in rows if row.recovered_s is not None]
    return {
        "fault_count": len(rows),
        "as_declared_count": sum(row.is_as_declared for row in rows),
        "detected_s": {"median": median(detected_s), "longest": max(detected_s)} if detected_s else None,
        "recovered_s": {"median": median(recovered_s), "longest": max(recovered_s)} if recovered_s else None,
        "most_steps_repeated": max((row.steps_repeated or 0 for row in rows), default=0),
    }


def _line(row: Row) -> str:
    figures = [row.detected_s, row.recovered_s, row.steps_repeated]
    shown = "".join(f"{'' if figure is None else figure:>8}" for figure in figures)
    return f"{row.of:9} {row.fault:42} {row.told_as:14}{shown}  {row.sentence[:90]}"


if __name__ == "__main__":
    main()
