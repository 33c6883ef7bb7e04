"""Passing a signal on to everyone of a job who has not heard it yet, once."""

from __future__ import annotations

import os
import signal

import psutil

from autofit.process.process_tree import send

_FROM_KERNEL = 0x80  # SI_KERNEL: from a terminal, which sends to all of its foreground group


def forward_signal(heard: signal.struct_siginfo, launcher_pid: int) -> None:
    """Forwards a signal; a terminal's has reached our process group already, and goes to those who have left it."""
    to = _addressees(launcher_pid)
    if heard.si_code == _FROM_KERNEL:
        to = [process for process in to if not _is_in_our_group(process)]
    send(to, heard.si_signo)


def _addressees(launcher_pid: int) -> list[psutil.Process]:
    """The processes to tell: the launcher, which dies of it, and the ranks or the back end below it."""
    try:
        launcher = psutil.Process(launcher_pid)
        return [launcher, *(each for child in launcher.children() for each in _below(child))]
    except psutil.NoSuchProcess:
        return []  # it has ended this very moment; what it leaves behind is ended after it


def _below(child: psutil.Process) -> list[psutil.Process]:
    """The processes to tell below the launcher: everything under launch.py, but not itself: it would pass SIGTERM on to
    one rank after the other, with 30 s for each, as their second signal. It sees them end. Of mpirun and srun
    themselves: they pass it on to their nodes. pdsh passes nothing on (see node_ranks)."""
    if child.name().startswith("pdsh"):  # Debian calls it pdsh.bin
        return []
    if "deepspeed.launcher.launch" in child.cmdline():
        return child.children(recursive=True) or [child]
    return [child]


def _is_in_our_group(process: psutil.Process) -> bool:
    try:
        return os.getpgid(process.pid) == os.getpgrp()
    except ProcessLookupError:
        return True  # it has ended
