"""Help is fast: it loads nothing that only work needs."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

BUDGET_S = 0.6  # of CPU time, on a machine that is busy; benchmarks/startup.py measures it
_HEAVY = ("torch", "rich", "psutil", "transformers", "pynvml", "deepspeed", "autofit.app.train", "autofit.report")
_PROGRAM = f"""
import sys
from autofit.cli.main import main
try:
    main()
finally:
    print([name for name in {_HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("verb", [[], ["train"], ["launch"], ["plan"], ["compare"], ["doctor"], ["show"]])
def test_help_is_light(verb: list[str]) -> None:
    before_s = _children_s()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *verb, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert _children_s() - before_s < BUDGET_S


def _children_s() -> float:
    """CPU time of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
