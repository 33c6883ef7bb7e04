"""How many answers are generated: for each prompt, in each step, at a time."""

from __future__ import annotations

import math

from autofit.domain.errors import UsageError
from autofit.domain.request import Request


def check_groups(request: Request) -> None:
    """Checks that a step's answers are whole groups, each of one prompt; UsageError where they are not."""
    answers, batch = request.generation.count, request.global_batch
    if not request.task.traits.generates or batch % answers == 0:
        return
    below = batch // answers * answers
    near = [str(size) for size in (below, below + answers) if size > 0]
    raise UsageError(
        f"a global batch of {batch} answers is not shared by prompts of {answers} answers each: give "
        f"--batch-size {' or '.join(near)}, or a --num-generations that divides it"
    )


def generated_rows(request: Request, rank_count: int) -> int:
    """The answers that one rank generates at a time: its share of a step's, all micro-batches together."""
    return request.global_batch // rank_count if request.task.traits.generates else 0


def evaluated_rows(micro_batch: int, rank_count: int, answers: int) -> int:
    """The answers of an evaluation's batch of one rank: the fewest from `micro_batch` on of which all ranks together
    have whole groups of `answers`, as trl's configuration demands."""
    whole = answers // math.gcd(answers, rank_count)
    return -(-micro_batch // whole) * whole
