"""How a model tells its tokens' places, read off its modules."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel

from autofit.domain.model import Positions

_PLACE = re.compile(r"pos|wpe", re.IGNORECASE)
_EXTRA_ROWS = 2  # OPT and its kin keep two rows in front, for padding


def positions_of(model: PreTrainedModel) -> Positions:
    """A table where a tensor holds one row for each position that config.json tells, rotary where frequencies are."""
    count = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if count is not None and any(_is_table(tensor, count) for tensor in _position_tensors(model)):
        return Positions.TABLE
    is_rotary = any("rotary" in name or "inv_freq" in name or "rope" in name for name in _names(model))
    return Positions.ROTARY if is_rotary else Positions.OTHER


def _position_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Tensors of modules whose name speaks of positions, and causal masks that are kept ready; not of tables that grow
    by themselves (XGLM's)."""
    for path, module in model.named_modules():
        if hasattr(module, "make_weights"):
            continue
        own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for name, tensor in own:
            is_named = _PLACE.search(f"{path.rsplit('.', 1)[-1]}.{name}") is not None
            if is_named or (tensor.dim() == 4 and name == "bias"):
                yield tensor


def _is_table(tensor: torch.Tensor, count: int) -> bool:
    if tensor.dim() < 2:
        return False
    size = tensor.shape[-1] if tensor.dim() == 4 else tensor.shape[0]
    return count <= size <= count + _EXTRA_ROWS


def _names(model: nn.Module) -> Iterator[str]:
    for name, _ in model.named_modules():
        yield name.rsplit(".", 1)[-1]
    for name, _ in model.named_buffers():
        yield name
