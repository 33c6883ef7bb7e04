"""A model on its way to a folder: written in a stream, and found there once it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from autofit.domain.units import format_bytes

from .part_writer import AsWritten, PartWriter, as_they_are
from .partial_folder import PartialFolder
from .ranks import attempt, first_of_all, is_one_file, rank_index
from .shards import divide
from .stored_state import StoredState
from .write_failure import NotWritten, WriteFailure, write_failure

MOST_SHARD_BYTES = 5 * 10**9
"""Of one file; what the hub's tools keep to (huggingface_hub, MAX_SHARD_SIZE)."""

Beat = Callable[[], None]
WriteRest = Callable[[Path], None]


class ModelWriter:
    """One save, in three steps that each rank leaves only when all have done theirs."""

    def __init__(
        self,
        state: StoredState,
        folder: Path,
        *,
        as_written: AsWritten = as_they_are,
        most_shard_bytes: int = MOST_SHARD_BYTES,
    ) -> None:
        self._state = state
        self._shards = divide(state, most_shard_bytes)
        self._folder = folder
        self._partial = PartialFolder(folder)
        self._as_written = as_written

    def write(self, write_rest: WriteRest, beat: Beat = lambda: None) -> None:
        """Writes the state; every rank calls it.

        `write_rest` writes what stands beside the weights into a folder, on the first rank; `beat` is called before
        each part of the state. Where a rank fails, its exception, NotWritten on all ranks if it was the disk's;
        nothing new is left in the folder then.
        """
        self._agree(_on_first_rank(lambda: self._begin(write_rest)))
        self._agree(self._write_tensors(beat))
        self._agree(_on_first_rank(self._finish))

    def _begin(self, write_rest: WriteRest) -> None:
        """Writes all but the tensors."""
        self._partial.begin()
        write_rest(self._partial.path)
        for name in self._shards.weights_among(os.listdir(self._partial.path)):
            (self._partial.path / name).unlink()  # weights that are none came with the rest
        self._shards.create(self._partial.path)

    def _write_tensors(self, beat: Beat) -> Exception | None:
        is_shared = is_one_file(self._partial.path / self._shards.entry)
        is_writing = is_shared or rank_index() == 0
        try:
            with self._shards.opened(self._partial.path) if is_writing else nullcontext() as opened:
                writer = PartWriter(self._state.model, opened, is_shared=is_shared, as_written=self._as_written)
                return writer.write(self._state.parts, beat)
        except OSError as error:  # of a file that is closed
            return error

    def _finish(self) -> None:
        names = self._shards.weights_among(os.listdir(self._folder))
        stale = [name for name in names if not self._shards.has_file(name)]
        self._partial.finish(entry=self._shards.entry, stale=stale)

    def _agree(self, problem: Exception | None) -> None:
        """Goes on where no rank has a problem."""
        own = None if problem is None else write_failure(problem)
        beside = None if problem is None else WriteFailure(False, f"{type(problem).__name__}: {problem}")
        found = first_of_all(own or beside)
        if found is None:
            return
        if rank_index() == 0:
            self._partial.discard()
        if problem is not None and own is None:
            raise problem
        raise NotWritten(found, self._sentence(found)) from problem

    def _sentence(self, failure: WriteFailure) -> str:
        if failure.is_full:
            needed = format_bytes(self._shards.size_bytes)
            return f"there is no space left for {self._folder}, whose weights take {needed}: free some there"
        return f"{self._folder} cannot be written ({failure}): see to that there"


def _on_first_rank(action: Callable[[], None]) -> Exception | None:
    return attempt(action) if rank_index() == 0 else None
