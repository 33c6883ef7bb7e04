"""The files of a model: which tensor is in which, and the index where they are several."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards

from autofit.domain.codec import to_json

from .safetensors_file import Layout, write_elements
from .stored_state import StoredState

_SUFFIX = ".safetensors"
_INDEX_SUFFIX = ".safetensors.index.json"


@dataclass(frozen=True)
class Shards:
    """`layouts` by the files' names; `index` is the content of the index file, None where there is one file."""

    stem: str
    layouts: Mapping[str, Layout]
    index: str | None

    @property
    def entry(self) -> str:
        """The file that a loader looks for first."""
        return self.stem + (_SUFFIX if self.index is None else _INDEX_SUFFIX)

    def create(self, folder: Path) -> None:
        """Writes each file without its tensors, and the index."""
        for name, layout in self.layouts.items():
            layout.create(folder / name)
        if self.index is not None:
            (folder / self.entry).write_text(self.index, "utf-8")

    @property
    def size_bytes(self) -> int:
        return sum(layout.size_bytes for layout in self.layouts.values())

    def has_file(self, name: str) -> bool:
        return name in self.layouts or name == self.entry

    def weights_among(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that hold weights of such a model, of this save or of another."""
        numbered = rf"(-\d{{5}}-of-\d{{5}})?{re.escape(_SUFFIX)}"
        pattern = re.compile(f"{re.escape(self.stem)}({numbered}|{re.escape(_INDEX_SUFFIX)})")
        return [name for name in names if pattern.fullmatch(name)]

    @contextmanager
    def opened(self, folder: Path) -> Iterator[OpenShards]:
        """Opens every file that `create` wrote."""
        with ExitStack() as stack:
            descriptors = {}
            for name in self.layouts:
                descriptors[name] = os.open(folder / name, os.O_WRONLY)
                stack.callback(os.close, descriptors[name])  # where a network's file system tells of a full disk
            yield OpenShards(self.layouts, descriptors)


class OpenShards:
    """Files that tensors are written into, by their names."""

    def __init__(self, layouts: Mapping[str, Layout], descriptors: Mapping[str, int]) -> None:
        self._places = {
            name: (descriptors[file], at_bytes, layout.dtypes[name])
            for file, layout in layouts.items()
            for name, at_bytes in layout.places_bytes.items()
        }

    def write(self, name: str, elements: torch.Tensor, first: int = 0) -> None:
        """Writes elements of the flat tensor `name`, from the `first` on, in the dtype that its file has it in."""
        descriptor, at_bytes, dtype = self._places[name]
        write_elements(descriptor, elements, at_bytes + first * dtype.itemsize, dtype)


def divide(state: StoredState, most_bytes: int) -> Shards:
    """The files for a state, named and filled as by save_pretrained: each of at most so many bytes unless a single
    tensor has more. PEFT loads an adapter from one file alone."""
    stem = "adapter_model" if state.is_adapter else "model"
    split = split_torch_state_dict_into_shards(
        dict(state.outline),
        filename_pattern=f"{stem}{{suffix}}{_SUFFIX}",
        max_shard_size=sys.maxsize if state.is_adapter else most_bytes,
    )
    layouts = {
        file: Layout({name: state.outline[name] for name in names}) for file, names in split.filename_to_tensors.items()
    }
    if not split.is_sharded:
        return Shards(stem, layouts, None)
    metadata = {"total_parameters": state.parameter_count, **split.metadata}
    index = {"metadata": metadata, "weight_map": split.tensor_to_filename}
    return Shards(stem, layouts, to_json(index, indent=2, sort_keys=True) + "\n")
