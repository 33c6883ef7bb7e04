"""How long a training is."""

from __future__ import annotations

from math import ceil

from autofit.domain.request import Request


def step_count(request: Request, row_count: int) -> int:
    """The optimizer steps of the whole training with so many rows."""
    return request.training.max_steps or ceil(ceil(row_count / request.global_batch) * request.training.epochs)
