"""Counting a model's parameters from the headers of its safetensors files; no weight is read."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autofit.domain.errors import UsageError

from .pickled_names import check_weights

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
OLD_FILE = "pytorch_model.bin"
OLD_INDEX_FILE = "pytorch_model.bin.index.json"
ENTRY_FILES = (SINGLE_FILE, INDEX_FILE, OLD_FILE, OLD_INDEX_FILE)
"""Where a model's weights begin, in the order in which transformers looks for them (`_get_resolved_checkpoint_files` of
5.23): it takes the first that is there, and nothing beside it."""
ADAPTER_FILE = "adapter_model.safetensors"

_LENGTH_BYTES = 8  # little-endian size of the JSON header that follows
_LONGEST_HEADER_BYTES = 100_000_000  # the format's own limit
_GIT_LFS_POINTER = b"version "
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_BUFFERS = ("rotary_emb.inv_freq", "masked_bias")  # saved by old releases, trained by none
_OUTPUT_WEIGHTS = ("lm_head.weight", "embed_out.weight")


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str  # as safetensors spells it
    shape: tuple[int, ...]


def count_parameters(tensors: Iterable[Tensor], *, is_tied: bool) -> int:
    """Counts the elements of the tensors that are parameters: buffers do not count, tied output weights count once."""
    return sum(math.prod(tensor.shape) for tensor in tensors if _is_parameter(tensor, is_tied))


def _is_parameter(tensor: Tensor, is_tied: bool) -> bool:
    is_causal_mask = tensor.name.endswith(".bias") and len(tensor.shape) == 4
    is_buffer = tensor.dtype not in _FLOATS or tensor.name.endswith(_BUFFERS) or is_causal_mask
    return not is_buffer and not (is_tied and tensor.name.endswith(_OUTPUT_WEIGHTS))


def entry_file(names: Collection[str]) -> str | None:
    """The file among `names` from which transformers loads the weights; None where it finds none."""
    return next((name for name in ENTRY_FILES if name in names), None)


def is_index(name: str) -> bool:
    return name in (INDEX_FILE, OLD_INDEX_FILE)


def shards_of(index: Path) -> tuple[str, ...]:
    """The files that an index names; UsageError for what is no index."""
    try:
        return tuple(sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"{index} is not the index of a model's shards: download it again.") from error


def has_all_weights(folder: Path) -> bool:
    """Whether `folder` holds weights that transformers loads, with every file that the index names."""
    entry = _entry_in(folder)
    if entry is None or not is_index(entry):
        return entry is not None
    return all((folder / name).exists() for name in shards_of(folder / entry))


def read_tensors(folder: Path) -> tuple[Tensor, ...] | None:
    """Every tensor of the model in `folder`; None when its weights are in another format than safetensors.

    UsageError when there are no weights at all, when a shard is missing, when a file is not whole, or when a pickle
    would run more than weights need.
    """
    entry = _entry_in(folder)
    if entry == SINGLE_FILE:
        return tuple(_read_file(folder / SINGLE_FILE))
    if entry == INDEX_FILE:
        return tuple(tensor for name in shards_of(folder / INDEX_FILE) for tensor in _read_file(folder / name))
    if entry is not None:
        check_weights(folder / name for name in (shards_of(folder / entry) if is_index(entry) else (entry,)))
        return None
    raise UsageError(
        f"{folder} has no weights that transformers loads ({SINGLE_FILE}, {INDEX_FILE} with its shards, {OLD_FILE}, "
        f"{OLD_INDEX_FILE} with its shards): download the whole model."
    )


def _entry_in(folder: Path) -> str | None:
    return entry_file([name for name in ENTRY_FILES if (folder / name).exists()])


def _read_file(path: Path) -> Iterator[Tensor]:
    for name, entry in read_header(path).items():
        if name != "__metadata__":
            yield Tensor(name, str(entry["dtype"]), tuple(entry["shape"]))


def read_header(path: Path) -> dict[str, Any]:
    """Reads the header of a safetensors file; UsageError where the file is none or is not whole."""
    try:
        with path.open("rb") as file:
            start = file.read(_LENGTH_BYTES)
            length_bytes = int.from_bytes(start, "little")
            if start == _GIT_LFS_POINTER or length_bytes > _LONGEST_HEADER_BYTES:
                raise UsageError(
                    f"{path} is no safetensors file; if it came with git, fetch its content: git lfs pull."
                )
            header = json.loads(file.read(length_bytes))
        ends_bytes = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing, though the index names it: download the model again.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not whole (its header cannot be read): download it again.") from error
    missing_bytes = _LENGTH_BYTES + length_bytes + max(ends_bytes, default=0) - path.stat().st_size
    if missing_bytes > 0:
        raise UsageError(f"{path} is not whole ({missing_bytes:,} bytes are missing): download it again.")
    return dict(header)
