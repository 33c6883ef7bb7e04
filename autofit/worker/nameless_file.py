"""A file that other processes can open and that has no name: nothing is left of it, whatever ends its owner."""

from __future__ import annotations

import os


class NamelessFile:
    """In memory, open until it is closed or this process ends. Linux."""

    def __init__(self, label: str) -> None:
        self._descriptor: int | None = os.memfd_create(label)

    @property
    def path(self) -> str:
        """For other processes of this user, while this one lives and has it open (proc_pid_fd(5))."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Once or more often."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
