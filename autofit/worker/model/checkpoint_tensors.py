"""The tensors in the files of a checkpoint, of which none is read before it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: `read` gives it, a view of the mapped file that costs memory only where it is looked at."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]

    @property
    def element_count(self) -> int:
        return math.prod(self.shape)


def in_memory(tensor: torch.Tensor) -> StoredTensor:
    """A tensor that is there already, or a view of a file that torch has mapped."""
    return StoredTensor(tuple(tensor.shape), lambda: tensor)


def stored_tensors(path: Path, *, is_mappable: bool) -> Mapping[str, StoredTensor]:
    """The tensors of a safetensors file by name; of one that must not be mapped `read` makes a copy of each."""
    file: Any = safe_open(path, framework="pt", backend="mmap" if is_mappable else "pread")
    return {name: _stored(file, name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)


def _stored(file: Any, name: str) -> StoredTensor:
    return StoredTensor(tuple(file.get_slice(name).get_shape()), lambda: file.get_tensor(name))
