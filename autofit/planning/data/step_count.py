"""How long a training is."""

from __future__ import annotations

from math import ceil

from autofit.domain.errors import UsageError
from autofit.domain.request import Request


def step_count(request: Request, row_count: int) -> int:
    """The optimizer steps of the whole training with so many rows, or prompts where answers are generated; UsageError
    as `prompts_per_step`.

    The last, incomplete batch of an epoch is a step of its own, but where answers are generated: there trl's
    RepeatSampler leaves it out.
    """
    if request.task.traits.generates:
        steps_per_epoch = row_count // prompts_per_step(request)
    else:
        steps_per_epoch = ceil(row_count / request.global_batch)
    return request.training.max_steps or ceil(steps_per_epoch * request.training.epochs)


def prompts_per_step(request: Request) -> int:
    """The number of prompts whose answers are one global batch; UsageError where it is no whole one."""
    answers, batch = request.generation.count, request.global_batch
    if batch % answers:
        near = max(1, round(batch / answers)) * answers
        raise UsageError(
            f"a step of {batch} answers cannot be {answers} answers to each prompt: use --batch-size {near}, or a "
            f"--num-generations that divides {batch}."
        )
    return batch // answers


def check_prompts(request: Request, source: str, prompt_count: int) -> None:
    """Checks that there are prompts for one step; UsageError where there are not."""
    wanted = prompts_per_step(request)
    if prompt_count < wanted:
        raise UsageError(
            f"{source}: one step takes {wanted} prompts ({request.generation.count} answers to each), and there are "
            f"{prompt_count}: use --batch-size {prompt_count * request.generation.count} or less."
        )
