"""Waiting for what other processes do: for an event, with a deadline that a busy machine keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 90.0


def wait_until(is_so: Callable[[], object], *, within_s: float = DEADLINE_S, what: str = "it") -> None:
    """AssertionError when it does not come true in time."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {within_s:.0f} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """More than a name: neither gone nor waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
