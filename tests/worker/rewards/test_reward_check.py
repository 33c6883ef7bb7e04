"""Rewards are looked at before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.request import Generation, Request, Reward
from autofit.domain.task import Task
from autofit.worker.data.training_data import training_data
from autofit.worker.rewards.reward_check import check_rewards
from tests.models.families import write_model


def test_a_model_without_a_head_that_scores_is_no_reward_model(tmp_path: Path) -> None:
    """Its head would be one of random weights."""
    write_model("llama", tmp_path)
    request = Request(
        str(tmp_path), 64, task=Task.GRPO, global_batch=8, generation=Generation(4, 16, (Reward(str(tmp_path)),))
    )
    data = training_data(request)
    with pytest.raises(UsageError, match=r"is a LlamaForCausalLM, which has no head that scores: name a reward model"):
        check_rewards(request, data)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForSequenceClassification"]}))
    check_rewards(request, data)
