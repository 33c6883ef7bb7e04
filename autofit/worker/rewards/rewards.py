"""What trl's trainer is given to reward answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from autofit.probing.protocol import Job

from .reward_function import followed, load_function


def rewards(job: Job, tokenizer: PreTrainedTokenizerBase) -> Mapping[str, Any]:
    """The request's rewards; UsageError for one that cannot be had."""
    asked = job.request.generation.rewards
    return {"reward_funcs": [followed(reward, load_function(reward)) for reward in asked]}


def probe_rewards(job: Job) -> Mapping[str, Any]:
    """The same for a probe: where functions reward, another in their place, which costs nothing."""
    asked = job.request.generation.rewards
    return {"reward_funcs": [_by_turns for _ in asked]}


def _by_turns(completions: list[str], **_: Any) -> list[float]:
    """Rewards every second answer, so that answers to a prompt are never equally good."""
    return [float(place % 2) for place in range(len(completions))]
