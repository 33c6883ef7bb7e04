"""Models that score texts already: which tasks go on from them, and which may reward answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.task import Task
from autofit.inputs.found_model import ModelFiles
from autofit.inputs.model_files import read_model_files
from autofit.inputs.scoring_head import check_reward, check_trainable
from tests.hardware.model_folder import TINY_LLAMA, TINY_TENSORS, write_config, write_safetensors

SCORES = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}


def found(folder: Path, **changed: Any) -> ModelFiles:
    write_safetensors(write_config(folder, {**TINY_LLAMA, **changed}) / "model.safetensors", TINY_TENSORS)
    return read_model_files(str(folder))


def test_a_reward_model_is_trained_on_and_rewards(tmp_path: Path) -> None:
    model = found(tmp_path, **SCORES)
    check_trainable(model, Task.REWARD)
    check_reward(model)


@pytest.mark.parametrize("task", [task for task in Task if task is not Task.REWARD])
def test_no_other_task_goes_on_from_it(task: Task, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"scores texts .* train on with --task reward, or choose one"):
        check_trainable(found(tmp_path, **SCORES), task)


@pytest.mark.parametrize("task", Task)
def test_every_task_starts_from_a_causal_model_that_rewards_nothing(task: Task, tmp_path: Path) -> None:
    model = found(tmp_path, architectures=["LlamaForCausalLM"])
    check_trainable(model, task)
    with pytest.raises(UsageError, match=rf"--reward {tmp_path} is no reward model"):
        check_reward(model)


@pytest.mark.parametrize(
    ("labels", "count"),
    [({}, 2), ({"num_labels": 5}, 5), ({"id2label": {"0": "bad", "1": "fair", "2": "good"}}, 3)],
    ids=["silent", "counted", "named"],
)
def test_a_classifier_of_several_labels_is_no_reward_model(labels: dict[str, Any], count: int, tmp_path: Path) -> None:
    model = found(tmp_path, architectures=SCORES["architectures"], **labels)
    for check in (check_reward, lambda one: check_trainable(one, Task.REWARD)):
        with pytest.raises(UsageError, match=rf"is a classifier of {count} labels"):
            check(model)


def test_code_beside_the_weights_says_whether_it_scores(tmp_path: Path) -> None:
    own = {"auto_map": {"AutoModelForSequenceClassification": "own.Judge"}, "num_labels": 1}
    check_reward(found(tmp_path, architectures=None, **own))
