"""How many answers a rank generates at a time."""

from __future__ import annotations

import math

from autofit.domain.request import Request
from autofit.planning.argument_words import is_switched_on, values_of

GATHERING = "ds3_gather_for_generation"
"""trl's name for it. A DeepSpeed configuration has it where the model is not gathered, for autofit's own ranks."""


def generated_rows(request: Request, rank_count: int) -> int:
    """The answers that one rank generates at a time: its share of a step's, all micro-batches together."""
    return request.global_batch // rank_count if request.task.traits.generates else 0


def evaluated_rows(request: Request, micro_batch: int, rank_count: int) -> int:
    """The answers of an evaluation's batch of one rank: the fewest from `micro_batch` on of which all ranks together
    have whole groups, as trl's configuration demands. The rows of a micro-batch where none are generated."""
    if not request.task.traits.generates:
        return micro_batch
    words = values_of(request.training.extra_arguments, "num_generations_eval")
    answers = [*(int(word) for word in words if word.isdigit() and int(word)), request.generation.count][0]
    whole = answers // math.gcd(answers, rank_count)
    return -(-micro_batch // whole) * whole


def gathering_asked(request: Request) -> bool | None:
    """What the user says of gathering a model that ZeRO-3 divides for a generation; None: nothing."""
    words = request.training.extra_arguments
    if any(name in words for name in ("--no_ds3_gather_for_generation", "--no-ds3-gather-for-generation")):
        return False
    return is_switched_on(words, GATHERING) if [*values_of(words, GATHERING)] else None
