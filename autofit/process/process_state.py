"""How a process stands for the kernel."""

from __future__ import annotations

from enum import Enum

from autofit.process.host_processes import stat_fields


class ProcessState(Enum):
    RUNNING = "running"  # or ready to, or asleep until something comes
    BLOCKED = "blocked"  # in the kernel: a disk, a driver
    STOPPED = "stopped"  # by SIGSTOP or a debugger
    ENDED = "ended"  # a zombie among them


_LETTERS = {"D": ProcessState.BLOCKED, "T": ProcessState.STOPPED, "t": ProcessState.STOPPED, "Z": ProcessState.ENDED}


def process_state(process_id: int) -> ProcessState:
    """The state of a process."""
    fields = stat_fields(process_id)
    return _LETTERS.get(fields[0], ProcessState.RUNNING) if fields else ProcessState.ENDED
