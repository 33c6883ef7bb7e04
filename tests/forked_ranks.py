"""Ranks of a test's own, forked from a process that has imported what they need."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def run_ranks(count: int, body: Callable[[int], object]) -> int:
    """Runs `body` with each rank's number, a process each; 0 where all of them came to their end, else 1."""
    pids = [pid for rank in range(count) if (pid := _start(rank, body))]
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in pids)


def _start(rank: int, body: Callable[[int], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body(rank)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    return pid
