"""Predicted against measured on one GPU: memory, speed, verdicts, and one search; nothing to download.

Run gpu_check.py first.

python benchmarks/gpu_suite.py [--budget-s 540] [--out FILE | --record] [--only WORD] [--device auto|cuda|cpu]

Prints a table as it goes, then a summary; --out writes one JSON file after every configuration, so that a run that is
cut off leaves what it has. --record writes to benchmarks/results/DATE-gpu-CARD.json. Configurations are in the order of
what they teach, and none is begun that the budget may not hold; what is left out is named. `--device cpu` tries the
same with toy models.
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Union

from _machine import add_date, header
from _recording import Recording, Row, write_body
from _suite_configurations import SMALL, Configuration, configurations
from _suite_decision import Decision, decide
from _suite_figures import Compared, as_recorded, compare, figures, fitted, wrong_verdicts
from _suite_probes import Bench, last_words, make_models, one_device, traced

from autofit.domain.codec import encode
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.attention import runs_flash
from autofit.domain.knobs.dtype import supported_dtypes
from autofit.domain.outcome import Crashed, Measured, Outcome, OutOfMemory, TimedOut, Unsupported
from autofit.domain.plan import Verdict
from autofit.domain.units import format_bytes
from autofit.hardware.requirements import installed_here
from autofit.planning.prior_constants import prior
from autofit.process.files import write_whole

RESULTS = Path(__file__).resolve().parent / "results"
DECISION = "decision"
DECISION_S = 150.0
DECISION_LEAST_S = 60.0  # the agent's start, the survey, the traces and a few probes
DECISION_AFTER = 19  # configurations: those that teach most come first
FIRST_S = 45.0  # what a configuration is taken to need before any was tried, and as how long a slow one counts at most
SLOWEST = 2.0  # times the median of those that were tried
CONFIGURATION_S = 150.0  # a host Adam that is compiled at its first use takes a minute or more
PARTING_S = 5.0
NAME_WIDTH = 58

Item = Union[Configuration, str]  # or the search, by its name


@dataclass
class Suite:
    """What was found so far."""

    head: dict[str, object]
    recording: Recording
    decision: Decision | None = None
    left_out: dict[str, str] = field(default_factory=dict)  # why, by name

    def body(self) -> dict[str, object]:
        constants = fitted(self.recording)
        return {
            **self.head,
            "summary": {
                "before_fitting": figures(as_recorded(self.recording)),
                "after_fitting_to_the_same_rows": figures(compare(self.recording, constants)),
                "wrong_verdicts": wrong_verdicts(self.recording.rows),
            },
            "constants": {"prior": encode(prior(self.recording.hardware.devices[0])), "fitted": encode(constants)},
            "decision": self.decision and {**encode(self.decision), "regret": round(self.decision.regret, 4)},
            "left_out": self.left_out,
            "recording": write_body(self.recording),
        }

    def write(self, path: Path | None) -> None:
        if path is not None:
            write_whole(path, json.dumps(self.body(), indent=1) + "\n")


def main() -> None:
    began_at_s = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in good order: no process and no folder is left
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="gpu-suite-") as root:
        hardware = one_device(options.device, Path(root))
        if options.device == "cuda" and hardware.kind is not DeviceKind.CUDA:
            raise SystemExit(f"no GPU can be used here: {' '.join(hardware.notes)}")
        wanted = chosen(hardware, options.only)
        out = _out(options, hardware)
        print(f"{hardware.summary}, {len(wanted)} configurations, {options.budget_s:.0f} s", flush=True)
        make_models(sorted({each.model for each in wanted} | {SMALL}), hardware, Path(root))
        recording = traced(hardware, wanted, Path(root))
        print(f"{time.monotonic() - began_at_s:.0f} s until everything was traced\n\n{titles()}", flush=True)
        suite = Suite(_head(options.date, hardware), recording)
        suite.write(out)
        with Bench(recording, Path(root)) as bench:
            run = Run(suite, bench, options.device, Path(root), began_at_s + options.budget_s - PARTING_S)
            for item in in_order(wanted, has_decision=options.only in DECISION):
                run.do(item)
                suite.write(out)
    print(json.dumps({key: value for key, value in suite.body().items() if key != "recording"}, indent=1))
    print(f"{time.monotonic() - began_at_s:.0f} s" + (f"; written to {out}" if out else ""), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget-s", type=float, default=540.0, help="seconds of wall clock, all in all")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--only", default="", help=f"what has this in its name; '{DECISION}' is the search")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, help="the JSON file")
    where.add_argument("--record", action="store_true", help="into benchmarks/results/")
    add_date(parser)
    return parser


def chosen(hardware: Hardware, only: str) -> tuple[Configuration, ...]:
    dtype = supported_dtypes(hardware)[0]
    has_flash = runs_flash(hardware, dtype, installed_here())
    return tuple(each for each in configurations(hardware.kind, dtype, has_flash=has_flash) if only in str(each))


def _out(options: argparse.Namespace, hardware: Hardware) -> Path | None:
    if not options.record:
        return options.out  # type: ignore[no-any-return]
    card = re.sub(r"[^a-z0-9]+", "-", hardware.devices[0].name.lower()).strip("-")
    return RESULTS / f"{options.date}-gpu-{card}.json"


def _head(date: str, hardware: Hardware) -> dict[str, object]:
    node = hardware.nodes[0]
    torch = find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    built = runpy.run_path(str(Path(torch.origin).with_name("version.py")))  # the package itself takes seconds
    return {
        **header("gpu_suite", date),
        "device": encode(node.devices[0]),
        "driver": node.driver_version,
        "torch": {"version": str(built["__version__"]), "cuda": built.get("cuda")},
    }


def in_order(wanted: Sequence[Configuration], *, has_decision: bool) -> list[Item]:
    """The search stands where most is known already and enough of the budget should be left."""
    decision = [DECISION] if has_decision else []
    return [*wanted[:DECISION_AFTER], *decision, *wanted[DECISION_AFTER:]]


class Run:
    """Does one item after the other; none is begun that may last beyond `until_s` by `clock`."""

    def __init__(
        self,
        suite: Suite,
        bench: Bench,
        device: str,
        root: Path,
        until_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._suite, self._bench, self._device, self._root = suite, bench, device, root
        self._until_s, self._clock = until_s, clock
        self._tried_s: list[float] = []

    def do(self, item: Item) -> None:
        """Whatever goes wrong, of the item or of this suite, is said, and the next has its turn."""
        if not self._has_time(item):
            return
        try:
            if isinstance(item, Configuration):
                self._try(item)
            else:
                self._decide()
        except Exception as error:
            traceback.print_exc()
            self._leave_out(item, f"{type(error).__name__}: {error}")

    def _left_s(self) -> float:
        return self._until_s - self._clock()

    def _has_time(self, item: Item) -> bool:
        """Otherwise it is left out."""
        expected_s = DECISION_LEAST_S if item == DECISION else expected(self._tried_s)
        if self._left_s() < expected_s:
            self._leave_out(item, "the budget is spent")
            return False
        return True

    def _try(self, configuration: Configuration) -> None:
        if why := hopeless(configuration, self._suite.recording):
            self._leave_out(configuration, why)
            return
        self._bench.start(self._left_s())
        if not self._has_time(configuration):
            return
        began_at_s = self._clock()
        row = self._bench.row(configuration, min(self._left_s(), CONFIGURATION_S))
        self._tried_s.append(self._clock() - began_at_s)
        self._suite.recording = replace(self._suite.recording, rows=(*self._suite.recording.rows, row))
        print(line(row), flush=True)
        if not isinstance(row.trial.outcome, (Measured, OutOfMemory)):
            print(self._bench.last_words(), file=sys.stderr, flush=True)

    def _decide(self) -> None:
        """The suite's own agent waits meanwhile; it holds nothing of the device."""
        try:
            found = decide(self._suite.recording.hardware, self._device, self._root, min(self._left_s(), DECISION_S))
        except Exception:
            print(last_words(self._root / "search"), file=sys.stderr, flush=True)
            raise
        self._suite.decision = found
        sweep = f"best of {found.tried_count}{'' if found.is_exhaustive else ', not all'}: {found.best}"
        print(
            f"{DECISION}: {found.pick} after {found.probe_count} probes, {found.decide_s:.1f} s "
            f"({found.search_s:.1f} s of search); {sweep}, regret {found.regret:.1%}",
            flush=True,
        )

    def _leave_out(self, item: Item, why: str) -> None:
        self._suite.left_out[str(item)] = why
        print(f"{item!s:{NAME_WIDTH}}  left out: {why}", flush=True)


def expected(tried_s: Sequence[float]) -> float:
    """How long the next configuration may take (s), by those that were tried.

    One that took very long, for a compiler or until its limit, says little of the next: it counts as `FIRST_S`.
    """
    return SLOWEST * statistics.median(min(one, FIRST_S) for one in tried_s) if tried_s else FIRST_S


def hopeless(configuration: Configuration, recording: Recording) -> str | None:
    """Why the card is too small for it, when it is the card and not the limit that stands in for a smaller one."""
    free_bytes = recording.hardware.device_memory_bytes
    low_bytes = recording.estimate(configuration).memory.low_bytes
    if configuration.limit_bytes <= free_bytes or low_bytes <= free_bytes:
        return None
    return f"needs {format_bytes(low_bytes)} at least, the card has {format_bytes(free_bytes)}"


def titles() -> str:
    return (
        f"{'configuration':{NAME_WIDTH}}  {'predicted (GB)':>24}  {'taken':>6} {'error':>7}  {'tensors':>7} "
        f"{'error':>7}  {'tokens/s':>8} {'predicted':>9}  {'probe':>6}  outcome"
    )


def line(row: Row) -> str:
    memory, speed, outcome = row.trial.estimate.memory, row.trial.estimate.speed, row.trial.outcome
    predicted = f"{_gb(memory.peak_bytes)} ({_gb(memory.low_bytes)} to {_gb(memory.high_bytes)})"
    seen = " " * 48
    if isinstance(outcome, Measured):
        compared = Compared(row, outcome, row.trial.estimate)
        held = outcome.peak_allocated_bytes
        tensors = f"{'-':>7} {'-':>7}" if held is None else f"{_gb(held):>7} {_percent(compared.tensors_error):>7}"
        seen = (
            f"{_gb(outcome.peak_device_bytes):>6} {_percent(compared.peak_error):>7}  {tensors}  "
            f"{outcome.tokens_per_s:8.0f} {speed.tokens_per_s:9.0f}"
        )
    return f"{row.configuration!s:{NAME_WIDTH}}  {predicted:>24}  {seen}  {outcome.total_s:4.0f} s  {_ended(row)}"


def _ended(row: Row) -> str:
    outcome = row.trial.outcome
    notes = [] if row.has_trace else ["no trace"]
    if isinstance(outcome, Measured):
        compared = Compared(row, outcome, row.trial.estimate)
        notes += [] if compared.is_inside else ["beyond the interval" if compared.is_above else "below the interval"]
        notes += ["the allocator thrashed"] if outcome.alloc_retries else []
        word = "fits"
    else:
        word = type(outcome).__name__
        notes += [_why(outcome)]
    verdict = {Verdict.FITS: "predicted to fit", Verdict.TOO_LARGE: "predicted too large"}.get(row.verdict, "open")
    return "; ".join([f"{word} ({verdict})", *notes])


def _why(outcome: Outcome) -> str:
    match outcome:
        case OutOfMemory():
            return f"{outcome.place.value}, in {outcome.phase.value}: {outcome.message[:120]}"
        case Crashed():
            return f"in {outcome.phase.value}: {outcome.why[:200]}"
        case Unsupported():
            return outcome.why[:200]
        case TimedOut():
            return f"in {outcome.phase.value}"
        case _:
            return ""


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f} %"


if __name__ == "__main__":
    main()
