"""Everything that runs below this process, orphans included, and putting an end to it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

import psutil

_POLL_S = 0.02
_GONE_S = 60.0  # a killed rank may take as long to give its device's memory back; then nobody can do more


def reap() -> dict[int, int]:
    """The exit codes, negative for signals, of the children that have ended, by process id."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def living() -> list[psutil.Process]:
    """Every process below this one that still runs."""
    return [process for process in psutil.Process().children(recursive=True) if _is_running(process)]


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def send(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            pass  # it has ended by itself


def end_all(polite_s: float) -> dict[int, int]:
    """Ends everything below this process: SIGTERM, and SIGKILL after `polite_s`. What `reap` found on the way."""
    ended = reap()
    deadline_s = time.monotonic() + polite_s
    if polite_s > 0:
        send(living(), signal.SIGTERM)
    while living() and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
        ended |= reap()
    deadline_s = time.monotonic() + _GONE_S
    while (left := living()) and time.monotonic() < deadline_s:
        send(left, signal.SIGKILL)
        time.sleep(_POLL_S)
        ended |= reap()
    return ended | reap()
