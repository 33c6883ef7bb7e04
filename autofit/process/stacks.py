"""The stacks of processes that stand still, in their log: asked for by a signal that nothing else uses."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autofit.process.process_state import ProcessState, process_state

STACKS_SIGNAL = signal.SIGRTMAX - 1
"""glibc keeps 32 and 33 (nptl(7)), debuggers and valgrind take the first and the last of the real-time signals, and
what sends SIGRTMIN + n counts from the other end."""

_EACH_S = 3.0  # a process that is in the kernel does not answer
_ALL_S = 20.0
_SETTLED_S = 0.3
_POLL_S = 0.02


@dataclass(frozen=True)
class Asked:
    """A process to ask, and what stands above its stacks in the log."""

    process_id: int
    title: str


def answer_with_stacks() -> None:
    """Has this process write the stacks of all its threads to standard error when it is asked. Done by C code, whatever
    Python is at."""
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True, chain=False)


def write_stacks(asked: Sequence[Asked], log_path: Path) -> None:
    """Has each process write its stacks to `log_path`, which must be its standard error, one after the other.

    One that is stopped is woken for it, last of all. For processes that are ended afterwards, all of which answer.
    """
    deadline_s = time.monotonic() + _ALL_S
    for one in sorted(asked, key=lambda one: _is_stopped(one.process_id)):
        if time.monotonic() < deadline_s:
            _ask(one, log_path)


def _ask(one: Asked, log_path: Path) -> None:
    with log_path.open("ab") as log:
        log.write(f"\n--- the stacks of {one.title} ---\n".encode())
    before = log_path.stat().st_size
    try:
        os.kill(one.process_id, STACKS_SIGNAL)
        if _is_stopped(one.process_id):
            os.kill(one.process_id, signal.SIGCONT)
    except ProcessLookupError:
        return  # it has ended by itself
    _wait_for_growth(log_path, before)


def _wait_for_growth(log_path: Path, before: int) -> None:
    """Waits until the log has grown and does so no more."""
    began_s = grown_s = time.monotonic()
    size = before
    while (now_s := time.monotonic()) - began_s < _EACH_S:
        time.sleep(_POLL_S)
        if (current := log_path.stat().st_size) != size:
            size, grown_s = current, now_s
        elif size > before and now_s - grown_s >= _SETTLED_S:
            return


def _is_stopped(process_id: int) -> bool:
    return process_state(process_id) is ProcessState.STOPPED
