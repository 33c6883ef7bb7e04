"""How a process stands for the kernel."""

from __future__ import annotations

from enum import Enum
from pathlib import Path


class ProcessState(Enum):
    RUNNING = "running"  # or ready to, or asleep until something comes
    BLOCKED = "blocked"  # in the kernel: a disk, a driver
    STOPPED = "stopped"  # by SIGSTOP or a debugger
    ENDED = "ended"  # a zombie among them


_LETTERS = {"D": ProcessState.BLOCKED, "T": ProcessState.STOPPED, "t": ProcessState.STOPPED, "Z": ProcessState.ENDED}


def process_state(process_id: int) -> ProcessState:
    """The state of a process, by /proc/PID/stat (proc_pid_stat(5))."""
    try:
        words = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ProcessState.ENDED
    return _LETTERS.get(words[0], ProcessState.RUNNING)
