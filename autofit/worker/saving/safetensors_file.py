"""A safetensors file that several processes may write at once: a header with every tensor's place, then the tensors.

The format: 8 bytes with the header's length, the header as JSON, and the tensors one after another, little-endian,
each in one piece (https://huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from autofit.domain.codec import to_json
from autofit.planning.memory.host_memory import PIECE_BYTES

_LENGTH_BYTES = 8
_ALIGNED_BYTES = 8  # the tensors begin at a multiple of it, as those that safetensors writes

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def has_name(dtype: torch.dtype) -> bool:
    """Whether a safetensors file can be told of this dtype."""
    return dtype in _NAMES


class Layout:
    """Where each tensor of a file lies; `tensors` are without memory (on `meta`) and tell dtypes and shapes."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        at_bytes, places = 0, {}
        # The widest first, as safetensors does: every tensor begins at a multiple of its element's size.
        for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
            end_bytes = at_bytes + tensor.nbytes
            offsets = [at_bytes, end_bytes]
            header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
            places[name], at_bytes = at_bytes, end_bytes
        text = to_json(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNED_BYTES)
        self._head = len(text).to_bytes(_LENGTH_BYTES, "little") + text
        self.places_bytes = {name: len(self._head) + start for name, start in places.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
        self.size_bytes = len(self._head) + at_bytes

    def create(self, path: Path) -> None:
        """Writes a new file of its whole length, with its header and without a tensor."""
        with path.open("xb") as file:
            file.write(self._head)
            file.truncate(self.size_bytes)


def write_elements(descriptor: int, elements: torch.Tensor, at_bytes: int, dtype: torch.dtype) -> None:
    """Writes a tensor of one dimension, as one in `dtype`, from `at_bytes` of an open file on, wherever it lies."""
    piece_count = PIECE_BYTES // elements.element_size()
    for piece in elements.detach().split(piece_count):
        _write_piece(descriptor, piece.to(dtype), at_bytes)
        at_bytes += piece.numel() * dtype.itemsize


def _write_piece(descriptor: int, piece: torch.Tensor, at_bytes: int) -> None:
    """Writes a piece by way of the host, which has forgotten it when the next one comes."""
    left = piece.cpu().view(torch.uint8).numpy().data
    while left:
        written_bytes = os.pwrite(descriptor, left, at_bytes)
        left, at_bytes = left[written_bytes:], at_bytes + written_bytes
