"""How a process stands for the kernel."""

from __future__ import annotations

from enum import Enum

from autofit.process.host_processes import stat_fields


class ProcessState(Enum):
    RUNNING = "running"  # or ready to, or asleep until something comes
    BLOCKED = "blocked"  # in the kernel: a disk, a driver
    STOPPED = "stopped"  # by SIGSTOP or a debugger
    ENDED = "ended"  # a zombie among them


_FLAGS, _EXITING = 6, 0x4  # field 9 of proc_pid_stat(5), and PF_EXITING of linux/sched.h
_LETTERS = {"D": ProcessState.BLOCKED, "T": ProcessState.STOPPED, "t": ProcessState.STOPPED, "Z": ProcessState.ENDED}


def is_exiting(process_id: int) -> bool:
    """Whether a process is on its way out, or a zombie: its connections may be broken long before it is one, for the
    kernel first gives back its memory."""
    fields = stat_fields(process_id)
    return bool(fields) and bool(int(fields[_FLAGS]) & _EXITING)


def process_state(process_id: int) -> ProcessState:
    """The state of a process."""
    fields = stat_fields(process_id)
    return _LETTERS.get(fields[0], ProcessState.RUNNING) if fields else ProcessState.ENDED
