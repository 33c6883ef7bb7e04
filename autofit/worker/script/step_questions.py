"""What a script asks of its engine, its loader and its trainer that tells how its batches become optimizer steps."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

import deepspeed
import torch
import transformers
from torch.utils.data import DataLoader

from autofit.domain.script import Ask
from autofit.worker.script.training_length import epoch_batches

_FOLDERS = {
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    *map(str, (Path(torch.__file__).parents[1], Path(__file__).parents[2])),
}
_LIBRARIES = tuple(f"{folder}{os.sep}" for folder in _FOLDERS)  # autofit itself is one of them


class StepQuestions:
    """Hears a script's questions from `listen` on, in this process. What a library asks does not count: it asks for the
    script's loop."""

    def __init__(self) -> None:
        self.epoch_rows: int | None = None  # of this rank, in the loader that was begun last
        self.epoch_batches: int | None = None  # of the same
        self._asks: set[Ask] = set()

    @property
    def asks(self) -> tuple[Ask, ...]:
        return tuple(ask for ask in Ask if ask in self._asks)

    def listen(self) -> None:
        engine = deepspeed.DeepSpeedEngine
        for ask in (Ask.BOUNDARY, Ask.ACCUMULATION):
            note = functools.partial(self._asks.add, ask)
            setattr(engine, ask.value, _noting_script(getattr(engine, ask.value), note))
        engine.global_steps = _watched_steps(lambda: self._asks.add(Ask.STEPS))
        DataLoader.__iter__ = _noting(DataLoader.__iter__, self._begin)  # type: ignore[method-assign]
        transformers.Trainer.train = _noting(transformers.Trainer.train, self._train)

    def _begin(self, loader: DataLoader[Any]) -> None:
        self.epoch_rows, self.epoch_batches = _epoch_rows(loader), epoch_batches(loader)

    def _train(self, trainer: transformers.Trainer) -> None:
        if not trainer.args.dataloader_drop_last:  # how many rows are dropped depends on the micro-batch
            self._asks.add(Ask.TRAINER)


def _epoch_rows(loader: DataLoader[Any]) -> int | None:
    """The rows of an epoch; None for a stream, and where the script groups its rows itself."""
    if loader.batch_size is None or not isinstance(loader.sampler, Sized):
        return None
    return len(loader.sampler)


class _Steps(int):
    """The number `global_steps` as a script reads it: the first comparison within the script is told."""

    tell: Callable[[], object]


def _compared(name: str) -> Callable[[_Steps, object], bool]:
    compare = getattr(int, name)

    def told(self: _Steps, other: object) -> bool:
        if _is_script():
            self.tell()
        answer: bool = compare(self, other)
        return answer

    return told


for _name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
    setattr(_Steps, _name, _compared(_name))
_Steps.__hash__ = int.__hash__  # type: ignore[method-assign]


def _watched_steps(tell: Callable[[], object]) -> property:
    def read(engine: deepspeed.DeepSpeedEngine) -> int:
        count: int = engine.__dict__["global_steps"]
        if not _is_script():
            return count
        watched = _Steps(count)
        watched.tell = tell
        return watched

    def write(engine: deepspeed.DeepSpeedEngine, count: int) -> None:
        engine.__dict__["global_steps"] = int(count)

    return property(read, write)


def _noting_script(call: Callable[..., Any], note: Callable[[], object]) -> Callable[..., Any]:
    @functools.wraps(call)
    def noted(*args: Any, **kwargs: Any) -> Any:
        if _is_script():
            note()
        return call(*args, **kwargs)

    return noted


def _noting(call: Callable[..., Any], note: Callable[[Any], object]) -> Callable[..., Any]:
    @functools.wraps(call)
    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        note(self)
        return call(self, *args, **kwargs)

    return noted


def _is_script() -> bool:
    """Whether the caller of the caller is the script's own code."""
    return not sys._getframe(2).f_code.co_filename.startswith(_LIBRARIES)
