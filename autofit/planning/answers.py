"""How many answers a rank generates at a time."""

from __future__ import annotations

import math

from autofit.domain.request import Request


def generated_rows(request: Request, rank_count: int) -> int:
    """The answers that one rank generates at a time: its share of a step's, all micro-batches together."""
    return request.global_batch // rank_count if request.task.traits.generates else 0


def evaluated_rows(micro_batch: int, rank_count: int, answers: int) -> int:
    """The answers of an evaluation's batch of one rank: the fewest from `micro_batch` on of which all ranks together
    have whole groups of `answers`, as trl's configuration demands."""
    whole = answers // math.gcd(answers, rank_count)
    return -(-micro_batch // whole) * whole
