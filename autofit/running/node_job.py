"""A job's processes on the node on which this runs, found and ended.

Sent to the node as text, to the Python that runs DeepSpeed's launch.py there: autofit need not be installed on it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

DONE = "autofit has left no rank on node"  # and its number, on a line
_MODULE = "deepspeed.launcher.launch"
_POLL_S = 0.1
_GONE_S = 60.0  # a killed rank may take as long to give its device's memory back; then nobody can do more


@dataclass(frozen=True)
class NodeJob:
    """A job on this node: the mark stands in the command line of its launch.py, and the node's number too; the ranks
    get the others."""

    mark: str
    master_addr: str
    master_port: str
    node: str

    def launchers(self) -> list[psutil.Process]:
        return [process for process in _own_processes() if self._is_launcher(_words(process))]

    def ranks(self) -> list[psutil.Process]:
        """What runs below launch.py; what has lost its launch.py is known by its environment."""
        below = [rank for launch in self.launchers() for rank in _below(launch)]
        return below + [process for process in _own_processes() if self._is_orphan(process)]

    def waiting(self) -> list[psutil.Process]:
        """The other processes that run this module for the same job. What has brought them here, such as `ssh`, has
        their words behind its own."""
        return [process for process in _own_processes() if self._is_waiting(_words(process))]

    def _is_waiting(self, words: list[str]) -> bool:
        job = [self.mark, self.master_addr, self.master_port, self.node]
        return words[1:2] == ["-c"] and words[3:7] == job

    def _is_launcher(self, words: list[str]) -> bool:
        return words[1:3] == ["-X", self.mark] and f"--node_rank={self.node}" in words

    def _is_orphan(self, process: psutil.Process) -> bool:
        try:
            own = process.environ()
            seen = (own.get("MASTER_ADDR"), own.get("MASTER_PORT"), own.get("CROSS_RANK"))
            is_rank = seen == (self.master_addr, self.master_port, self.node)
            return is_rank and not any(_MODULE in _words(parent) for parent in process.parents())
        except psutil.Error:
            return False  # it has ended

    def end(self, number: int, grace_s: float) -> bool:
        """Sends the signal to every rank, and SIGKILL to everyone after the grace; says whether nothing is left.

        launch.py sees its ranks end: a signal of its own would reach them a second time, one after the other. A SIGKILL
        ends those as well who wait here for what an earlier signal does: they would see the end a moment later.
        """
        _send(self.ranks() or self.launchers(), number)
        if number == signal.SIGKILL:
            _send(self.waiting(), number)
        if self._is_gone_in(grace_s):
            return True
        return self._is_gone_in(_GONE_S, lambda: _send(self._all(), signal.SIGKILL))

    def _is_gone_in(self, time_s: float, push: Callable[[], None] = lambda: None) -> bool:
        deadline_s = time.monotonic() + time_s
        while self._all():
            if time.monotonic() >= deadline_s:
                return False
            push()
            time.sleep(_POLL_S)
        return True

    def _all(self) -> list[psutil.Process]:
        return [*self.launchers(), *self.ranks()]


def _own_processes() -> list[psutil.Process]:
    """The processes of this user, but for this one."""
    return [each for each in psutil.process_iter(["uids"]) if _user(each) == os.getuid() and each.pid != os.getpid()]


def _user(process: psutil.Process) -> int | None:
    uids = process.info["uids"]
    return uids.real if uids is not None else None


def _below(process: psutil.Process) -> list[psutil.Process]:
    """The processes below one; none once it has ended: then its ranks are known by their environment."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _words(process: psutil.Process) -> list[str]:
    """The command line of a process, empty once it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _send(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            pass  # it has ended by itself


def main(mark: str, master_addr: str, master_port: str, node: str, number: str, grace_s: str) -> None:
    if NodeJob(mark, master_addr, master_port, node).end(int(number), float(grace_s)):
        print(DONE, node)


if __name__ == "__main__":
    main(*sys.argv[1:])
