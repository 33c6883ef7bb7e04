"""The universal form of a checkpoint, for ranks that are more or fewer than those that saved it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from autofit.domain.codec import to_json
from autofit.domain.errors import UsageError
from autofit.inputs.script_checkpoint import divided_otherwise
from autofit.probing.protocol import Job
from autofit.process.universal_checkpoint import found


def universal_start(start: str | None, checkpoints: Path, rank_count: int) -> str | None:
    """The universal form of the checkpoint `start` where ZeRO has divided that among another number of ranks, None
    where it is loaded as it is; UsageError where it was not made."""
    divided = None if start is None else divided_otherwise(start, rank_count)
    if start is None or divided is None:
        return None
    universal = found(checkpoints, Path(start))
    if universal is None:
        raise UsageError(
            f"{start} is divided among {divided.rank_count} ranks and was not made universal for {rank_count}: start "
            "it with `autofit train`, which does that first."
        )
    return str(universal)


def loading_universal(job: Job) -> Job:
    """The job with an engine that loads universal checkpoints."""
    assert job.deepspeed_config is not None
    config = {**json.loads(job.deepspeed_config), "checkpoint": {"load_universal": True}}
    return replace(job, deepspeed_config=to_json(config))
