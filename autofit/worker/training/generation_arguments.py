"""The trainer's arguments of a task that generates answers, by what the request says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autofit.planning.answers import evaluated_rows
from autofit.probing.protocol import Job


def generation_arguments(job: Job, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields; `asked` are those of the request. Nothing where no answers are generated.

    steps_per_generation is left to trl: as many as a step accumulates, so that a generation makes one step's answers
    however the batch is divided.
    """
    if not job.request.task.traits.generates:
        return {}
    answers = asked.get("num_generations_eval") or asked["num_generations"]
    return {
        "reward_weights": [reward.weight for reward in job.request.generation.rewards],
        "per_device_eval_batch_size": evaluated_rows(job.strategy.micro_batch, job.rank_count, answers),
    }
