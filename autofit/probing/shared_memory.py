"""DeepSpeed's files in /dev/shm, which ranks that are killed leave behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def shared_memory_files(port: str, address: str = "127.0.0.1") -> Iterator[Path]:
    """Those of this user's groups that meet on `port` of `address` (glob patterns)."""
    return Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_*")


def remove_shared_memory(port: str, address: str = "127.0.0.1") -> None:
    for path in shared_memory_files(port, address):
        path.unlink(missing_ok=True)
