"""A port for ranks to meet at, and DeepSpeed's files in /dev/shm, which ranks that are killed leave behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

_FULL_BYTES = 2**20  # a page that is not there any more, beside what the ranks gave back when they died


def free_port(address: str = "127.0.0.1") -> int:
    """A port on which nobody listens now at this machine's `address`."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def shared_memory_files(port: str, address: str = "127.0.0.1") -> Iterator[Path]:
    """The files of this user's groups that meet on `port` of `address` (glob patterns)."""
    return Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_*")


def remove_shared_memory(port: str, address: str = "127.0.0.1") -> None:
    for path in shared_memory_files(port, address):
        path.unlink(missing_ok=True)


def is_shared_full(folder: str = "/dev/shm") -> bool:
    """Whether nothing more fits into /dev/shm; False where there is none, or none of a limited size."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_blocks > 0 and found.f_bavail * found.f_frsize < _FULL_BYTES


class SharedMemory:
    """The files of one job, which ranks that are killed leave behind. What was there before it is another job's."""

    def __init__(self, master_port: int) -> None:
        self._port = str(master_port)
        self._before = self._files()

    def _files(self) -> set[Path]:
        return set(shared_memory_files(self._port, "*"))

    def clean(self) -> None:
        for path in self._files() - self._before:
            path.unlink(missing_ok=True)
