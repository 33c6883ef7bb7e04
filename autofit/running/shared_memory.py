"""DeepSpeed's files in /dev/shm."""

from __future__ import annotations

import os
from pathlib import Path


class SharedMemory:
    """Those of one job, which ranks that are killed leave behind. What was there before it is another job's."""

    def __init__(self, master_port: int, *, folder: Path = Path("/dev/shm")) -> None:
        self._folder = folder
        self._pattern = f"deepspeed_allreduce_buffer_{os.getuid()}_*_{master_port}_*"
        self._before = self._files()

    def _files(self) -> set[Path]:
        return set(self._folder.glob(self._pattern))

    def clean(self) -> None:
        for path in self._files() - self._before:
            path.unlink(missing_ok=True)
