"""The trainer's arguments of a task that generates answers, by what the request says of them."""

from __future__ import annotations

import json
from typing import Any

from autofit.planning.answers import GATHERING, evaluated_rows
from autofit.probing.protocol import Job


def generation_arguments(job: Job) -> dict[str, Any]:
    """The fields; none where no answers are generated.

    steps_per_generation is left to trl: as many as a step accumulates, so that a generation makes one step's answers
    however the batch is divided.
    """
    if not job.request.task.traits.generates:
        return {}
    return {
        "reward_weights": [reward.weight for reward in job.request.generation.rewards],
        "per_device_eval_batch_size": evaluated_rows(job.request, job.strategy.micro_batch, job.rank_count),
        GATHERING: GATHERING not in (job.deepspeed_config or ""),
    }


def engine_configuration(job: Job) -> dict[str, Any] | None:
    """The configuration of the job's engine, without what it says to us alone; None where there is no engine."""
    if job.deepspeed_config is None:
        return None
    config: dict[str, Any] = json.loads(job.deepspeed_config)
    config.pop(GATHERING, None)
    return config
