"""Whether all that only a GPU can show is as autofit takes it to be; nothing to download, three to eight minutes.

python benchmarks/gpu_check.py [--only WORD …] [--budget-s 540] [--out FILE] [--device auto|cuda|cpu]

Prints a line that begins with OK or BAD for each finding, and under a BAD one what to do; --out writes all of it as
JSON. Exit code 1 when something is BAD. Run it before gpu_suite.py, which measures. `--device cpu` runs what needs no
GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from _check import Check, Finding, Where
from _gpu_checks import CHECKS
from _machine import add_date, header

from autofit.domain.codec import encode
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.hardware.machine import detect
from autofit.process.child import Child
from autofit.process.python import worker_environment

IMPORTS_S = 60.0  # a fork server's, on a machine that has never done it
LEAST_S = 5.0
PARTING_S = 5.0
TAIL_LINES = 12


@dataclass
class Report:
    head: dict[str, object]
    findings: list[Finding] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # why, by the check's name

    def take(self, finding: Finding) -> None:
        self.findings.append(finding)
        print(f"{'OK ' if finding.is_ok else 'BAD'} {finding.check}: {finding.text}", flush=True)
        if finding.advice:
            print(f"      → {finding.advice}", flush=True)

    def leave_out(self, checks: Sequence[Check], why: str) -> None:
        self.left_out |= {check.name: why for check in checks}
        print(f"--  {', '.join(check.name for check in checks)}: {why}", flush=True)

    @property
    def bad(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_ok]

    def write(self, path: Path) -> None:
        body = {**self.head, "findings": [asdict(finding) for finding in self.findings], "left_out": self.left_out}
        path.write_text(json.dumps(body, indent=1) + "\n", "utf-8")


def main() -> None:
    began_at_s = time.monotonic()
    options = _parser().parse_args()
    if not any(word in check.name for check in CHECKS for word in options.only):
        raise SystemExit(f"--only {' '.join(options.only)}: there are {', '.join(check.name for check in CHECKS)}")
    visible = "" if options.device == "cpu" else os.environ.get("CUDA_VISIBLE_DEVICES")
    hardware = detect(ranks=1, memory_limit_bytes=None, visible_devices=visible, disk_path=Path())
    if options.device == "cuda" and hardware.kind is not DeviceKind.CUDA:
        raise SystemExit(f"no GPU can be used here: {' '.join(hardware.notes)}")
    print(f"{hardware.summary}, {options.budget_s:.0f} s", flush=True)
    report = Report({**header("gpu_check", options.date), "device": encode(hardware.devices[0])})
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as root:
        for checks in batches(CHECKS, options.only):
            left_s = options.budget_s - (time.monotonic() - began_at_s)
            run(checks, hardware, left_s, report, Path(root, "log"))
    if options.out is not None:
        report.write(options.out)
    took_s = time.monotonic() - began_at_s
    print(f"{len(report.findings) - len(report.bad)} OK, {len(report.bad)} BAD, {took_s:.0f} s", flush=True)
    sys.exit(1 if report.bad else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="checks with one of these in the name")
    parser.add_argument("--budget-s", type=float, default=540.0, help="seconds of wall clock, all in all")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--out", type=Path, help="the JSON file")
    add_date(parser)
    return parser


def batches(checks: Sequence[Check], only: Sequence[str]) -> Iterator[list[Check]]:
    """Those of ranks that follow each other share one fork server; every other check has a process of its own."""
    wanted = [check for check in checks if any(word in check.name for word in only)]
    for _, batch in groupby(enumerate(wanted), lambda pair: -1 if pair[1].where is Where.RANK else pair[0]):
        yield [check for _number, check in batch]


def run(checks: list[Check], hardware: Hardware, left_s: float, report: Report, log_path: Path) -> None:
    """For `left_s` seconds at most; what its processes print is shown where something is not as it should be."""
    if hardware.kind is DeviceKind.CPU and (without := [check for check in checks if check.needs_gpu]):
        report.leave_out(without, "needs a GPU")
        checks = [check for check in checks if not check.needs_gpu]
    if not checks:
        return
    if left_s < LEAST_S:
        report.leave_out(checks, "the budget is spent")
        return
    bad_before = len(report.bad)
    limit_s = sum(check.limit_s for check in checks) + IMPORTS_S
    if (why := _run(checks, hardware, min(limit_s, left_s), report, log_path)) is not None:
        heard = {finding.check for finding in report.findings}
        for check in checks:
            if check.name not in heard:
                report.take(Finding(check.name, False, why, check.advice))
    if len(report.bad) > bad_before:
        print("\n".join(f"      | {line}" for line in _tail(log_path)), flush=True)


def _run(checks: list[Check], hardware: Hardware, limit_s: float, report: Report, log_path: Path) -> str | None:
    """Why they did not come to an end by themselves; None where they did."""
    device = hardware.devices[0].visible_name
    reading, writing = os.pipe()
    with log_path.open("wb") as log:
        script = str(Path(__file__).with_name("_check_process.py"))
        command = [sys.executable, script, str(writing), hardware.kind.value, device, json.dumps(encode(checks))]
        child = Child(command, log, environment=worker_environment(hardware.kind), pass_fds=(writing,))
    os.close(writing)
    has_ended = _hear(reading, time.monotonic() + limit_s, report)
    os.close(reading)
    exit_code = child.end(PARTING_S if has_ended else 0.0)
    if not has_ended:
        return f"no end within {limit_s:.0f} s"
    return None if exit_code == 0 else f"ended {_how(exit_code)}"


def _hear(descriptor: int, deadline_s: float, report: Report) -> bool:
    """Takes each finding as it comes; whether that came to an end before `deadline_s` (time.monotonic)."""
    text = b""
    while select.select([descriptor], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return True
        *lines, text = (text + chunk).split(b"\n")
        for line in lines:
            report.take(Finding(**json.loads(line)))
    return False


def _how(exit_code: int) -> str:
    return f"by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"with {exit_code}"


def _tail(log_path: Path) -> list[str]:
    lines = [line for line in log_path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-TAIL_LINES:]


if __name__ == "__main__":
    main()
