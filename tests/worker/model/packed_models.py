"""Checkpoints whose linear layers are packed as GPTQ and AWQ pack them, of numbers that are drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

GROUP_SIZE = 16
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the outputs in a word, from its lowest bits on (AutoAWQ, awq/modules/linear)
_LAYERS = ("_proj.weight", ".w1.weight", ".w2.weight", ".w3.weight")
_SCALE = 0.002
_FORMATS = {
    "gptq": {"quant_method": "gptq", "checkpoint_format": "gptq"},
    "gptq_v2": {"quant_method": "gptq", "checkpoint_format": "gptq_v2"},
    "awq": {"quant_method": "awq", "version": "gemm", "zero_point": True},
}


def pack_folder(
    folder: Path, layout: str, *, bits: int = 4, is_shuffled: bool = False, has_groups: bool = True
) -> Mapping[str, torch.Tensor]:
    """Packs the linear layers and experts of the decoder in `folder`; returns what their weights are then, in fp32.

    With GPTQ and `has_groups` the group of each input is stored, by chance where `is_shuffled` (`desc_act`).
    """
    drawn, weights, stored = torch.Generator().manual_seed(0), {}, {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if not name.endswith(_LAYERS):
            stored[name] = tensor
            continue
        layer, (outputs, inputs) = name.removesuffix("weight"), tensor.shape
        groups = torch.arange(inputs) // GROUP_SIZE
        if is_shuffled:
            groups = groups[torch.randperm(inputs, generator=drawn)]
        numbers = torch.randint(2**bits, (inputs, outputs), generator=drawn)
        points = torch.randint(1, 2**bits, (inputs // GROUP_SIZE, outputs), generator=drawn)
        scales = (_SCALE * (0.5 + torch.rand(points.shape, generator=drawn))).half()
        weights[name] = (scales.float()[groups] * (numbers - points[groups])).t()
        is_awq, order = layout == "awq", _AWQ_ORDER if layout == "awq" else range(32 // bits)
        stored[f"{layer}scales"] = scales
        stored[f"{layer}qzeros"] = _packed(points - int(layout == "gptq"), bits, order)
        stored[f"{layer}qweight"] = _packed(numbers, bits, order) if is_awq else _packed(numbers.t(), bits, order).t()
        if has_groups and not is_awq:
            stored[f"{layer}g_idx"] = groups.int()
    contiguous = {name: tensor.contiguous() for name, tensor in stored.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
    _describe(folder, {**_FORMATS[layout], "bits": bits, "group_size": GROUP_SIZE, "desc_act": is_shuffled})
    return weights


def _packed(numbers: torch.Tensor, bits: int, order: Sequence[int]) -> torch.Tensor:
    """The numbers of each row in words of 32 bits, in this order from the lowest bits on."""
    words = torch.zeros(len(numbers), numbers.shape[1] * bits // 32, dtype=torch.int64)
    for place, own in enumerate(order):
        words |= numbers[:, own :: len(order)] << (bits * place)
    return torch.where(words < 2**31, words, words - 2**32).int()


def _describe(folder: Path, quantization: Mapping[str, Any]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": quantization}))
