"""Rewards looked at before anything starts: a function that fails would end a training at its first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers import TrainerState

from autofit.domain.request import Request
from autofit.worker.data.training_data import TrainingData
from autofit.worker.model.configuration import load_config

from .reward_function import load_function, try_function

_TRIED = 2
"""As many answers are enough to see whether each gets a reward."""


def check_rewards(request: Request, data: TrainingData) -> None:
    """Finds each reward of the request and has functions reward an answer to each of the first prompts; UsageError with
    what is wrong of the first that cannot be used."""
    if not request.task.traits.generates:
        return
    for reward in request.generation.rewards:
        if not reward.is_function:
            load_config(reward.source, trust_remote_code=request.trust_remote_code, scores=True)
        else:
            try_function(
                reward, load_function(reward), _answers(data.train.select(range(min(_TRIED, len(data.train)))))
            )


def _answers(rows: Dataset) -> Mapping[str, Any]:
    """The arguments by which trl asks for the rewards of answers (`_calculate_rewards`, 1.16): here to each prompt its
    own words."""
    columns = {name: list(rows[name]) for name in rows.column_names}
    prompts = columns.pop("prompt")
    answers = [prompt if isinstance(prompt, str) else [_spoken(prompt)] for prompt in prompts]
    return {
        **columns,
        "prompts": prompts,
        "completions": answers,
        "completion_ids": [[0]] * len(prompts),
        "trainer_state": TrainerState(),
        "log_extra": _hear_nothing,
        "log_metric": _hear_nothing,
    }


def _spoken(prompt: list[dict[str, Any]]) -> dict[str, Any]:
    return {"role": "assistant", "content": prompt[-1]["content"]}


def _hear_nothing(name: str, value: Any) -> None:
    """Stands for where trl keeps figures of a function's own."""
