"""What stands beside every figure: the day, the machine and the versions."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SCHEMA = 1
_PACKAGES = ("torch", "deepspeed", "transformers", "trl", "peft", "accelerate", "datasets", "click")


def add_date(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="for the result; today unless told")


def header(benchmark: str, date: str) -> dict[str, object]:
    """The opening fields of a result; the load says whether the machine had other things to do."""
    return {
        "schema": SCHEMA,
        "benchmark": benchmark,
        "date": date,
        "machine": {
            "cpu": _cpu_name(),
            "core_count": len(os.sched_getaffinity(0)),
            "system": platform.system(),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
