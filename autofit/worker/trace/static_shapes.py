"""Shapes that depend on data, taken for the case that every position counts: a fake tensor has no data to ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_aten = torch.ops.aten


def _places(mask: torch.Tensor) -> list[torch.Tensor]:
    """The indices that a mask of nothing but True selects, as `nonzero` gives them: one int64 for each dimension."""
    return list(torch.empty(mask.numel(), mask.dim(), dtype=torch.int64, device=mask.device).unbind(1))


def _index(tensor: torch.Tensor, indices: list[torch.Tensor | None]) -> torch.Tensor:
    picked: torch.Tensor = _aten.index.Tensor(tensor, _spread(indices))
    return picked


def _index_put(
    tensor: torch.Tensor, indices: list[torch.Tensor | None], values: torch.Tensor, accumulate: bool = False
) -> torch.Tensor:
    put: torch.Tensor = _aten.index_put.default(tensor, _spread(indices), values, accumulate)
    return put


def _spread(indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    spread: list[torch.Tensor | None] = []
    for index in indices:
        spread += _places(index) if index is not None and index.dtype is torch.bool else [index]
    return spread


def _masked_select(tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.empty(torch.broadcast_shapes(tensor.shape, mask.shape), dtype=tensor.dtype).flatten()


def _grouped_product(
    rows: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor | None = None, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """The product of grouped matrices: the kernels take every dtype, torch's rule for fake tensors only bf16."""
    if rows.dtype is torch.bfloat16 or offsets is None:
        product: torch.Tensor = _aten._grouped_mm.default(rows, weight, offsets, *args, **kwargs)
        return product
    groups = (offsets.numel(),) if weight.dim() == 2 else ()
    return torch.empty(*groups, rows.shape[0], weight.shape[-1], dtype=rows.dtype)


STATIC_SHAPES: dict[Any, Callable[..., Any]] = {
    _aten.index.Tensor: _index,
    _aten.index_put.default: _index_put,
    _aten.masked_select.default: _masked_select,
    _aten._grouped_mm.default: _grouped_product,
}
