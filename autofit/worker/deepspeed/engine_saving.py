"""DeepSpeed's engine saved so that a rank whose disk is full does not leave the others waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from autofit.inputs.checkpoint_files import LATEST

Record = Callable[[Callable[[], object]], None]
"""Does something that writes, and keeps for later what the disk says against it."""


@contextmanager
def recorded_saves(engine: Any, folder: Path, record: Record) -> Iterator[None]:
    """Has `record` do whatever the engine writes into `folder` until the end of `with`.

    Between a rank's files and the end of `save_checkpoint` the ranks wait for each other (DeepSpeed 0.19.8,
    `runtime/engine.py`), so that an exception of one alone would be the end of all.
    """
    files, copy_scripts, save = engine.checkpoint_engine, engine._copy_recovery_script, engine.save_checkpoint
    engine.checkpoint_engine = _RecordedFiles(files, record)
    engine._copy_recovery_script = lambda place: record(lambda: copy_scripts(place))
    engine.save_checkpoint = partial(save, save_latest=False)  # it would write that between two waits
    try:
        yield
    finally:
        del engine._copy_recovery_script, engine.save_checkpoint  # of the instance: the class's are there again
        engine.checkpoint_engine = files
    if engine.global_rank == 0:
        record(lambda: (folder / LATEST).write_text(f"global_step{engine.global_steps}"))


class _RecordedFiles:
    """Stands before the engine's CheckpointEngine, which writes its files."""

    def __init__(self, files: Any, record: Record) -> None:
        self._files = files
        self._record = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._record(lambda: self._files.save(*args, **kwargs))
