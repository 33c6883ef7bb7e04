"""What the arguments of a forward pass say of the batch: its rows, their width, its real tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class ObservedBatch:
    """What a batch shows of itself, None where it does not say. `real_tokens` is rows where there are no tokens; on a
    GPU it is there."""

    rows: int | None
    tokens: int | None  # width of a row, padding included
    real_tokens: torch.Tensor | int


def observe_batch(batch: Any, micro_batch: int) -> ObservedBatch:
    """Observes a batch; `micro_batch` tells how many rows were joined to one where the batch is flattened."""
    named = list(_tensors(batch, ""))
    ids = next((tensor for name, tensor in named if name == "input_ids" and tensor.dim() == 2), None)
    if ids is None:
        ids = next((tensor for _, tensor in named if tensor.dim() == 2 and not tensor.is_floating_point()), None)
    if ids is None:
        rows = next((tensor.shape[0] for _, tensor in named if tensor.dim() > 0), None)
        return ObservedBatch(rows, None, rows or 0)
    rows, tokens = ids.shape
    if rows == 1 and any(name == "position_ids" for name, _ in named):  # joined to one row, as trl packs them
        rows, tokens = micro_batch, -(-tokens // micro_batch)
    return ObservedBatch(rows, tokens, _real_tokens(ids, dict(named).get("attention_mask")))


def _real_tokens(ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | int:
    return mask.sum() if mask is not None and mask.shape == ids.shape else ids.numel()


def _tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, str(key))
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for item in value:
            yield from _tensors(item, name)
