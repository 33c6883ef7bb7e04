"""A model on its way to a folder: written in a stream, and found there once it is whole."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from torch import nn

from autofit.domain.units import format_bytes
from autofit.probing.protocol import FailureKind
from autofit.worker.rank.failure import KnownFailure

from .part_writer import PartWriter
from .partial_folder import PartialFolder
from .partition import whole_shape
from .ranks import attempt, first_of_all, is_one_file, rank_index
from .shards import Shards, divide
from .stored_state import StoredState, stored_state

MOST_SHARD_BYTES = 5 * 10**9
"""Of one file; what the hub's tools keep to (huggingface_hub, MAX_SHARD_SIZE)."""

Beat = Callable[[], None]
WriteRest = Callable[[Path], None]


def write_model(
    model: nn.Module, folder: Path, write_rest: WriteRest, *, beat: Beat, most_shard_bytes: int = MOST_SHARD_BYTES
) -> None:
    """Writes what is stored of the model to `folder`, or its adapter alone; every rank calls it.

    `write_rest` writes what stands beside the weights into a folder, on the first rank; `beat` is called before each
    tensor. NotStreamed where another way must be taken. Where a rank cannot write, that rank's exception, KnownFailure
    on all of them if it was the disk's; nothing new is left in `folder` then.
    """
    _Save(model, folder, most_shard_bytes).run(write_rest, beat)


class _Save:
    """One save, in three steps that each rank leaves only when all have done theirs."""

    def __init__(self, model: nn.Module, folder: Path, most_shard_bytes: int) -> None:
        self._model = model
        self._state = stored_state(model)
        self._shards = shards_of(model, self._state, most_bytes=most_shard_bytes)
        self._folder = folder
        self._partial = PartialFolder(folder)

    def run(self, write_rest: WriteRest, beat: Beat) -> None:
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
        with self._shards.opened(self._partial.path) if is_writing else nullcontext() as opened:
            return PartWriter(self._model, opened, is_shared=is_shared).write(self._state.parts, beat)

    def _finish(self) -> None:
        names = self._shards.weights_among(os.listdir(self._folder))
        stale = [name for name in names if not self._shards.has_file(name)]
        self._partial.finish(entry=self._shards.entry, stale=stale)

    def _agree(self, problem: Exception | None) -> None:
        """Goes on where no rank has a problem."""
        sentence = first_of_all(None if problem is None else self._sentence(problem))
        if sentence is None:
            return
        if rank_index() == 0:
            self._partial.discard()
        if problem is not None and not isinstance(problem, OSError):
            raise problem
        raise KnownFailure(FailureKind.CRASHED, sentence) from problem

    def _sentence(self, problem: Exception) -> str:
        if not isinstance(problem, OSError):
            return f"{type(problem).__name__}: {problem}"
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = format_bytes(self._shards.size_bytes)
            return f"there is no space left for {self._folder}, whose weights take {needed}: free some there"
        return f"{self._folder} cannot be written ({problem.strerror or problem}): see to that there"


def _on_first_rank(action: Callable[[], None]) -> Exception | None:
    return attempt(action) if rank_index() == 0 else None


def shards_of(model: nn.Module, state: StoredState, *, most_bytes: int) -> Shards:
    """The files of a state; PEFT loads an adapter from one alone."""
    parameter_count = sum(whole_shape(parameter).numel() for parameter in model.parameters())
    stem, most_bytes = ("adapter_model", sys.maxsize) if state.is_adapter else ("model", most_bytes)
    return divide(state.outline, stem, most_bytes=most_bytes, parameter_count=parameter_count)
