"""The end of what a benchmark has started."""

from __future__ import annotations

import os
import signal
import subprocess

LEAVE_S = 60.0  # one that is interrupted takes its ranks along; it has this long before it is killed


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupts it where it runs, and kills its process group if it does not leave."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(LEAVE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
