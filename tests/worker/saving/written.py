"""Models written by our own code: whole, or divided as by ZeRO-3 and by each rank in turn, in one process."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import groups
from torch.nn import functional
from torch.testing._internal.distributed import fake_pg
from transformers import PreTrainedModel

from autofit.worker.saving.model_writer import ModelWriter
from autofit.worker.saving.part_writer import PartWriter
from autofit.worker.saving.shards import divide
from autofit.worker.saving.stored_state import Converted, Unchanged, stored_state

RANKS = 3


def save(model: Any, folder: Path, rest: Callable[[Path], Any] | None = None, **options: Any) -> None:
    """Streams a model or its adapter as the trainer does, which has save_pretrained write the rest."""
    rest = rest or (lambda place: model.save_pretrained(place, state_dict={}))
    ModelWriter(stored_state(model), folder, **options).write(rest)


@contextmanager
def divided(model: PreTrainedModel, rank: int, rank_count: int) -> Iterator[PreTrainedModel]:
    """The model with what rank `rank` of so many holds; nobody plays the others, and a gather has their data wrong."""
    dist.init_process_group("fake", rank=rank, world_size=rank_count, store=fake_pg.FakeStore())
    linear = functional.linear
    no_collectives = patch("deepspeed.comm.torch.build_shm_op", return_value=None)  # a minute's build, for no one
    try:
        with patch.dict(os.environ, LOCAL_RANK="0"), no_collectives:
            deepspeed.init_distributed("gloo", dist_init_required=False)
            deepspeed.zero.Init(module=model)
        yield model
    finally:
        functional.linear = linear  # DeepSpeed leaves its own
        dist.destroy_process_group()
        deepspeed.comm.comm.cdb, groups._WORLD_GROUP = None, None


def write_slices(model: PreTrainedModel, folder: Path, rank: int, rank_count: int = RANKS) -> None:
    """What one rank writes of a divided model's tensors, but for those that a conversion gathers; the first rank makes
    the file."""
    state = stored_state(model)
    shards = divide(state, 10**9)
    if rank == 0:
        shards.create(folder)
    parts = [part for part in state.parts if rank_count == 1 or isinstance(part, Unchanged)]
    with shards.opened(folder) as opened:
        problem = PartWriter(model, opened, is_shared=True).write(parts, lambda: None)
    assert problem is None, problem


def converted(model: PreTrainedModel) -> set[str]:
    """The names in the file of what is made of several tensors, or in several of one."""
    parts = [part for part in stored_state(model).parts if isinstance(part, Converted)]
    return {name for part in parts for name in part.stored}


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Alike to the last bit, in dtype and shape."""
    is_alike = one.dtype == other.dtype and one.shape == other.shape
    return is_alike and torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


class FullDisk:
    """A disk with so much room: what goes beyond it the system refuses."""

    def __init__(self, room_bytes: int) -> None:
        self._room_bytes = room_bytes

    def pwrite(self, descriptor: int, data: memoryview, at_bytes: int) -> int:
        if self._room_bytes == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written_bytes = os.pwrite(descriptor, data[: self._room_bytes], at_bytes)
        self._room_bytes -= written_bytes
        return written_bytes
