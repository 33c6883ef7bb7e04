"""Online reinforcement on real ranks: answers are generated, rewarded and learned from, and a run goes on from between
two generations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.request import Generation, Lora, Request, Reward, Training
from autofit.domain.task import Task
from tests.builders import make_request
from tests.spread import with_matrix
from tests.training.runs import Case, Ended, Runs

pytestmark = pytest.mark.slow

CONSTANT = ("--lr_scheduler_type", "constant")
REWARDS = '''"""The share of an answer's letters that are vowels, which a few steps change."""

import vowels


def vowel_share(completions, **columns):
    return [sum(letter in vowels.VOWELS for letter in answer) / max(1, len(answer)) for answer in completions]


def fails_later(completions, trainer_state, **columns):
    if trainer_state.global_step == 1:
        raise KeyError("answer")
    return vowel_share(completions)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reward functions that import what lies beside them, and prompts."""
    folder = tmp_path_factory.mktemp("rewards")
    (folder / "rewards.py").write_text(REWARDS)
    (folder / "vowels.py").write_text('VOWELS = "aeiou"\n')
    prompts = [{"prompt": f"Question {number}: what is there?"} for number in range(24)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    return folder


def asked(model: Path, folder: Path, *, function: str = "vowel_share", **training: Any) -> Request:
    """Steps of four prompts with four answers of 16 tokens each."""
    return make_request(
        model,
        64,
        task=Task.GRPO,
        global_batch=16,
        data=str(folder / "prompts.jsonl"),
        lora=Lora(r=16, alpha=64, target_modules=("all-linear",)),
        generation=Generation(4, 16, (Reward(f"{folder / 'rewards.py'}:{function}"),)),
        training=Training(**{"learning_rate": 2e-2, "extra_arguments": CONSTANT, **training}),
    )


def rewards(ended: Ended) -> list[float]:
    return [step["reward"] for step in ended.steps]


@pytest.mark.parametrize(
    "case",
    [
        Case(micro_batch=4, stage=0),
        Case(micro_batch=2, stage=1, checkpointing=GradientCheckpointing.EVERY_2),
        Case(micro_batch=8, stage=2),
        Case(micro_batch=4, stage=3),
        Case(micro_batch=2, stage=3, method=Method.LORA, checkpointing=GradientCheckpointing.ON),
    ],
    ids=str,
)
def test_the_reward_rises_and_the_saved_model_loads(case: Case, runs: Runs, model: Path, folder: Path) -> None:
    ended = runs.autofit(case, asked(model, folder, max_steps=12))
    assert ended.codes == [0, 0], ended.log
    found = rewards(ended)
    assert len(found) == 12
    least = 1.1 if case.method is Method.FULL else 1.03  # adapters move a model of random weights less
    assert sum(found[-3:]) > least * sum(found[:3]), found
    if case.method is Method.FULL:
        loaded = AutoModelForCausalLM.from_pretrained(ended.model)
        ids = AutoTokenizer.from_pretrained(ended.model)("Question", return_tensors="pt")
        assert loaded.generate(**ids, max_new_tokens=2).shape[1] > ids["input_ids"].shape[1]
    else:
        assert (ended.model / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    "case",
    with_matrix([Case(micro_batch=4, stage=3, optimizer=Optimizer.LOMO)], [Case(stage=0, optimizer=Optimizer.LOMO)]),
)
def test_answers_are_generated_between_updates_in_the_backward_pass(
    case: Case, runs: Runs, model: Path, folder: Path
) -> None:
    told = asked(model, folder, max_steps=3, learning_rate=0.3)
    ended = runs.autofit(case, told)
    assert ended.codes == [0, 0], ended.log
    assert len(rewards(ended)) == 3
    first, last = (load_file(where / "model.safetensors")["model.norm.weight"] for where in (model, ended.model))
    assert not torch.equal(first.float(), last.float())


def test_a_step_is_the_same_however_its_answers_are_divided(runs: Runs, model: Path, folder: Path) -> None:
    """Answers are drawn rank by rank for a whole step, so that only the ranks' number decides which ones come."""
    first, second = (
        runs.autofit(Case(micro_batch=micro_batch), asked(model, folder, max_steps=3)) for micro_batch in (2, 8)
    )
    assert rewards(first)[:2] == rewards(second)[:2]
    norms = [[step["grad_norm"] for step in ended.steps] for ended in (first, second)]
    assert norms[0][:2] == pytest.approx(norms[1][:2], rel=1e-3)


def test_a_resumed_run_generates_what_it_would_have(runs: Runs, model: Path, folder: Path) -> None:
    """In a second epoch of six steps, whose prompts come in another order than the first one's."""
    case, request = (
        Case(micro_batch=4),
        asked(model, folder, epochs=2.0),
    )
    whole = runs.autofit(case, request)
    begun = runs.autofit(case, replace(request, training=replace(request.training, max_steps=8)))
    resumed = runs.autofit(case, request, begun.folder)
    assert [step["step"] for step in resumed.steps] == list(range(1, 13)), resumed.log
    for name in ("loss", "reward", "completions/mean_length"):
        assert [step[name] for step in resumed.steps] == [step[name] for step in whole.steps], name


def test_a_reward_function_that_fails_is_named_with_its_line(runs: Runs, model: Path, folder: Path) -> None:
    ended = runs.autofit(Case(), asked(model, folder, function="fails_later", max_steps=3))
    assert 1 in ended.codes  # the other one may have been ended for it before it could say the same
    report: Any = next(iter(ended.reports.values()))
    assert report.phase.value == "reward"
    assert report.message.startswith(f"--reward {folder / 'rewards.py'}:fails_later raises KeyError: 'answer' (")
    assert report.message.endswith("rewards.py, line 12)")
