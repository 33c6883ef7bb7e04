"""The ranks that save together: what goes wrong on one of them goes wrong on all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import torch.distributed as dist

T = TypeVar("T")

_KERNEL = Path("/proc/sys/kernel/random/boot_id")  # Linux, random(4): another one for each start of a kernel


def rank_index() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def attempt(action: Callable[[], None]) -> Exception | None:
    """What `action` raised: for who must go on beside the others, and tell them later."""
    try:
        action()
    except Exception as error:
        return error
    return None


def first_of_all(value: T | None) -> T | None:
    """What the first rank gives that gives something; every rank asks, and learns it once all have asked."""
    return next((told for told in _of_all(value) if told is not None), None)


def decided(decide: Callable[[], T]) -> T:
    """What the first rank decides, on every rank."""
    if not dist.is_initialized():
        return decide()
    told = [decide() if rank_index() == 0 else None]
    dist.broadcast_object_list(told, src=0)
    return cast(T, told[0])


def is_one_file(path: Path) -> bool:
    """Whether every rank sees the same file there, through the same kernel; every rank asks.

    Several nodes may see one file and still not write it together: NFS sends whole pages, with what this node last knew
    of the bytes between its own.
    """
    found = set(_of_all(_identity(path)))
    return len(found) == 1 and None not in found


def _identity(path: Path) -> tuple[str, int, int] | None:
    """What tells the file from every other; None where this rank does not see it."""
    try:
        status = os.stat(path)
        return _KERNEL.read_text(), status.st_dev, status.st_ino
    except OSError:
        return None


def _of_all(own: T) -> list[T]:
    """What each rank gives, by their order."""
    if not dist.is_initialized():
        return [own]
    given = [own] * dist.get_world_size()
    dist.all_gather_object(given, own)
    return given
