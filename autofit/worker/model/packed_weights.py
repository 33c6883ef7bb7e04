"""Weights that GPTQ or AWQ has packed, each made plain when transformers reads it.

A weight of a linear layer is stored as whole numbers of few bits, `bits / 32` words each, with a scale and a zero point
for each group of inputs and each output: w = scale · (number - zero point) (Frantar et al., GPTQ, 2210.17323; Lin et
al., AWQ, 2306.00978; the layouts are those of `dequantize_weight` and `dequantize_gemm` in gptqmodel 7.7). All else,
such as quantising it anew or dividing it, is done as with weights that are stored plain.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig, modeling_utils

from autofit.inputs.packed_weights import Layout, Packing, packing
from autofit.inputs.snapshot import local_options

from .streaming import replaced

_WORD_BITS = 32
_BITS = (2, 4, 8)
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in its word AWQ has the first of eight outputs, the second, ..."""

_PIECE_ELEMENTS = 2**22
"""Elements of a weight that are unpacked at a time, with 20 bytes or so of intermediate results for each."""

_PACKED = ("qweight", "qzeros", "scales")
_GROUPS = "g_idx"  # of each input; without it they follow each other


def stored_packing(model: str) -> Packing | None:
    """How the weights of a folder or a hub id are packed; None where they are not."""
    values, _ = PretrainedConfig.get_config_dict(model, **local_options(model))
    return packing(values)


@dataclass(frozen=True)
class PackedWeight:
    """What stands for a plain weight in a checkpoint; read whole, as transformers does, it is unpacked on `device`.

    `words` (int32, inputs · bits / 32 × outputs; with AWQ inputs × outputs · bits / 32), `zeros` (int32, groups ×
    outputs · bits / 32), `scales` (groups × outputs) and `groups` (int32, inputs) are tensors, or can be read as such.
    """

    words: Any
    zeros: Any
    scales: Any
    groups: Any | None
    packing: Packing
    device: torch.device | None
    dtype: torch.dtype

    def __getitem__(self, whole: Any) -> torch.Tensor:
        parts = (self.words, self.zeros, self.scales)
        words, zeros, scales = (part[...].to(self.device or "cpu") for part in parts)
        groups = None if self.groups is None else self.groups[...].to(words.device)
        return unpacked(words, zeros, scales, groups, self.packing, self.dtype)


def unpacked(
    words: torch.Tensor,
    zeros: torch.Tensor,
    scales: torch.Tensor,
    groups: torch.Tensor | None,
    packing: Packing,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The plain weight, outputs × inputs; the arguments are as PackedWeight's. ValueError where their sizes do not go
    together."""
    group_count, output_count = scales.shape
    bits = _WORD_BITS * zeros.shape[1] // output_count
    if bits not in _BITS:
        raise ValueError(f"{tuple(zeros.shape)} words of zero points do not go with {tuple(scales.shape)} scales")
    is_awq = packing.layout is Layout.AWQ
    step = 1 if is_awq else _WORD_BITS // bits  # inputs in a row of words
    input_count = words.shape[0] * step
    if groups is None:
        groups = torch.arange(input_count, device=words.device) // (packing.group_size or input_count)
    if len(groups) != input_count or int(groups.max()) >= group_count:
        raise ValueError(f"{tuple(words.shape)} packed words do not go with {tuple(scales.shape)} scales")
    points, wide = _columns(zeros, bits, packing.layout), scales.float()
    if packing.layout is Layout.GPTQ:
        points = (points + 1) & (2**bits - 1)
    weight = torch.empty(output_count, input_count, dtype=dtype, device=words.device)
    row_count = max(1, _PIECE_ELEMENTS // (output_count * step))
    for first in range(0, len(words), row_count):
        piece = words[first : first + row_count]
        numbers = _columns(piece, bits, packing.layout) if is_awq else _rows(piece, bits)
        own = groups[first * step : first * step + len(numbers)].long()
        weight[:, first * step : first * step + len(numbers)] = ((numbers - points[own]) * wide[own]).t()
    return weight


def _numbers(words: torch.Tensor, bits: int) -> torch.Tensor:
    """The numbers of each word, in a last dimension of their own."""
    shifts = torch.arange(0, _WORD_BITS, bits, dtype=torch.int32, device=words.device)
    return torch.bitwise_and(words.unsqueeze(-1) >> shifts, 2**bits - 1)


def _rows(words: torch.Tensor, bits: int) -> torch.Tensor:
    return _numbers(words, bits).transpose(1, 2).flatten(0, 1)


def _columns(words: torch.Tensor, bits: int, layout: Layout) -> torch.Tensor:
    numbers = _numbers(words, bits)
    return (numbers[..., list(_AWQ_PLACES)] if layout is Layout.AWQ else numbers).flatten(1)


@contextlib.contextmanager
def unpacking(packing: Packing, device: torch.device | None, dtype: torch.dtype) -> Iterator[None]:
    """Has transformers find plain weights in a checkpoint of packed ones until the end of `with`; RuntimeError there
    where it has loaded a model without asking for them."""
    load: Any = modeling_utils.convert_and_load_state_dict_in_model
    found: list[bool] = []

    def convert_and_load_state_dict_in_model(model: Any, state_dict: Mapping[str, Any], **others: Any) -> Any:
        plain = _plain(state_dict, packing, device, dtype)
        found.append(any(isinstance(one, PackedWeight) for one in plain.values()))
        return load(model, plain, **others)

    name = convert_and_load_state_dict_in_model.__name__
    with replaced(modeling_utils, name, convert_and_load_state_dict_in_model):
        yield
    if found != [True]:
        raise RuntimeError("no packed weights were found where transformers 5.23 loads a checkpoint")


def _plain(
    stored: Mapping[str, Any], packing: Packing, device: torch.device | None, dtype: torch.dtype
) -> dict[str, Any]:
    """The tensors of a checkpoint by name, with a plain weight in the place of each packed one."""
    layers = [name.removesuffix(_PACKED[0]) for name in stored if name.endswith(f".{_PACKED[0]}")]
    packed = {f"{layer}{part}" for layer in layers for part in (*_PACKED, _GROUPS)}
    plain = {name: tensor for name, tensor in stored.items() if name not in packed}
    for layer in layers:
        words, zeros, scales = (stored[f"{layer}{part}"] for part in _PACKED)
        groups = stored.get(f"{layer}{_GROUPS}")
        plain[f"{layer}weight"] = PackedWeight(words, zeros, scales, groups, packing, device, dtype)
    return plain
