"""DeepSpeed's files in /dev/shm."""

from __future__ import annotations

from pathlib import Path

from autofit.probing.shared_memory import shared_memory_files


class SharedMemory:
    """Those of one job, which ranks that are killed leave behind. What was there before it is another job's."""

    def __init__(self, master_port: int) -> None:
        self._port = str(master_port)
        self._before = self._files()

    def _files(self) -> set[Path]:
        return set(shared_memory_files(self._port, "*"))

    def clean(self) -> None:
        for path in self._files() - self._before:
            path.unlink(missing_ok=True)
