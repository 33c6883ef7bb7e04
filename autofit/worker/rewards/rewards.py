"""What trl's trainer is given to reward answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autofit.domain.event import Tell
from autofit.probing.protocol import Job, ProbeSpec
from autofit.worker.model.loading_bar import Hear

from .reward_function import followed, load_function
from .reward_model import LongestTexts, random_reward_model, reward_model, reward_tokenizer


def rewards(job: Job, *, hear: Hear, tell: Tell) -> Mapping[str, Any]:
    """The request's rewards, functions and models, as arguments of the trainer; UsageError for a function that cannot
    be had."""
    asked = job.request.generation.rewards
    return {
        "reward_funcs": [
            followed(one, load_function(one)) if one.is_function else reward_model(job, one, hear=hear, tell=tell)
            for one in asked
        ],
        "reward_processing_classes": [None if one.is_function else reward_tokenizer(job, one) for one in asked],
    }


def probe_rewards(spec: ProbeSpec) -> Mapping[str, Any]:
    """The same for a probe: a function that costs nothing in the place of the user's, models of random weights."""
    asked, texts = spec.job.request.generation.rewards, LongestTexts(spec.worst[-1].padded_tokens)
    return {
        "reward_funcs": [_by_turns if one.is_function else random_reward_model(spec.job, one) for one in asked],
        "reward_processing_classes": [None if one.is_function else texts for one in asked],
    }


def _by_turns(completions: list[str], **_: Any) -> list[float]:
    """Rewards every second answer, so that answers to a prompt are never equally good."""
    return [float(place % 2) for place in range(len(completions))]
