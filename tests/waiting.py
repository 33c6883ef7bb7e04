"""Waiting for what other processes do: for an event, with a deadline that a busy machine keeps."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 90.0
_EXITING = 0x4  # PF_EXITING of the kernel's include/linux/sched.h, in the flags of /proc/PID/stat


def wait_until(is_so: Callable[[], object], *, within_s: float = DEADLINE_S, what: str = "it") -> None:
    """AssertionError when it does not come true in time."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {within_s:.0f} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Neither gone nor on its way: what was killed takes a moment, on a busy machine a long one."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return state not in "ZX" and not int(fields[5]) & _EXITING and not _is_killed(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_killed(pid: int) -> bool:
    """Whether a SIGKILL waits for it to be scheduled."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(mask & 1 << signal.SIGKILL - 1 for mask in pending)
