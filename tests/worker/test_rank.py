"""How a rank ends itself."""

from __future__ import annotations

import subprocess
import sys

# torch's own handler raises, in whatever line runs, that a data loader's worker was killed.
_ENDS_WITH_A_WORKER = """
import os, signal, subprocess, sys
from autofit.worker.rank import end_process

def on_child(number, frame):
    raise RuntimeError("worker is killed by signal")

def exit_when_it_is_dead(code):
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    really_exit(code)

signal.signal(signal.SIGCHLD, on_child)
worker = subprocess.Popen(["sleep", "60"])
really_exit, os._exit = os._exit, exit_when_it_is_dead
end_process(0)
"""


def test_workers_of_a_data_loader_end_with_their_rank_in_silence() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _ENDS_WITH_A_WORKER], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
