"""Recipes with tasks: several trainings, what they share, and which of them needs the model of which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autofit.domain.request import Generation, Learn, Request, Reward
from autofit.domain.task import Task
from autofit.domain.training_phase import TrainingPhase
from tests.cli.command import end

THREE_PHASES = Path(__file__).parents[3] / "recipes" / "three-phases.yaml"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def run(recipe: Path, *words: str) -> int:
    return end("train", "--recipe", str(recipe), *words)


def asked(calls: list[dict[str, Any]], recipe: Path, text: str, *words: str) -> tuple[TrainingPhase, ...]:
    recipe.write_text(text)
    assert run(recipe, *words) == 0
    phases: tuple[TrainingPhase, ...] = calls[-1]["phases"]
    return phases


def refused(capsys: pytest.CaptureFixture[str], recipe: Path, text: str, *words: str) -> str:
    recipe.write_text(text)
    assert run(recipe, *words) == 2
    return capsys.readouterr().err


def test_the_three_phases_that_ship(calls: list[dict[str, Any]]) -> None:
    assert run(THREE_PHASES) == 0
    sft, reward, grpo = calls[-1]["phases"]
    assert [phase.request.task for phase in (sft, reward, grpo)] == [Task.SFT, Task.REWARD, Task.GRPO]
    assert [phase.request.model for phase in (sft, reward, grpo)] == ["examples/tiny-llama", "sft", "sft"]
    assert [phase.uses for phase in (sft, reward, grpo)] == [frozenset(), {"sft"}, {"sft", "reward"}]
    # what another phase loads is a whole model, whatever was trained
    assert [phase.request.training.merge for phase in (sft, reward, grpo)] == [True, True, False]
    assert {phase.request.sequence_length for phase in (sft, reward, grpo)} == {256}
    models = {"sft": "/runs/1-sft/model", "reward": "/runs/2-reward/merged"}
    assert sft.located({}) == sft.request
    assert reward.located(models).model == models["sft"]
    assert grpo.located(models).model == models["sft"]
    assert grpo.located(models).generation == Generation(4, 32, (Reward(models["reward"]),))
    assert calls[-1]["output_dir"] == Path("autofit-runs/tiny-llama-three-phases")


def test_each_goes_on_from_the_one_before_which_a_reward_model_is_not_for_text(
    calls: list[dict[str, Any]], recipe: Path
) -> None:
    text = "model: m\nreward: [previous=0.5, rewards.py:brief]\ntasks: [sft, dpo, reward, grpo]\n"
    phases = asked(calls, recipe, text)
    assert [phase.starts_from for phase in phases] == [None, "sft", "dpo", "dpo"]
    assert phases[-1].rewarded_by == ("reward",)
    assert phases[-1].request.generation.rewards == (Reward("reward", 0.5), Reward("rewards.py:brief"))
    assert phases[0].request.generation == Generation()


def test_a_phase_may_name_any_model_and_two_tasks_have_names(calls: list[dict[str, Any]], recipe: Path) -> None:
    text = "model: m\ntasks:\n- {name: facts}\n- {name: style, model: some/other}\n- {task: dpo, model: facts}\n"
    facts, style, dpo = asked(calls, recipe, text)
    assert [phase.name for phase in (facts, style, dpo)] == ["facts", "style", "dpo"]
    assert (style.request.task, style.request.model, style.starts_from) == (Task.SFT, "some/other", None)
    assert dpo.starts_from == "facts"
    assert [phase.request.training.merge for phase in (facts, style, dpo)] == [True, False, False]


def test_a_phase_s_own_flag_wins_over_a_shared_one_and_the_command_line_over_both(
    calls: list[dict[str, Any]], recipe: Path
) -> None:
    text = "model: m\nseq: 512\nepochs: 2\ntolerance: 5%\ntasks:\n- {task: sft, seq: 64}\n- {task: dpo, epochs: 1}\n"
    sft, dpo = asked(calls, recipe, text)
    assert [(one.request.sequence_length, one.request.training.epochs) for one in (sft, dpo)] == [(64, 2.0), (512, 1.0)]
    assert {one.options.tolerance for one in (sft, dpo)} == {0.05}
    words = ["--seq", "128", "--output-dir", "o", "--dry-run", "--", "--weight_decay", "0.1"]
    sft, dpo = asked(calls, recipe, text, *words)
    assert {one.request.sequence_length for one in (sft, dpo)} == {128}
    assert {one.request.training.extra_arguments for one in (sft, dpo)} == {("--weight_decay", "0.1")}
    assert {one.options.is_dry_run for one in (sft, dpo)} == {True}
    assert calls[-1]["output_dir"] == Path("o")


def test_a_phase_has_arguments_of_its_own_before_those_of_the_command_line(
    calls: list[dict[str, Any]], recipe: Path
) -> None:
    text = "model: m\ntasks: [{arguments: --packing true}, {task: dpo, arguments: [--beta, 0.2]}, kto]\n"
    sft, dpo, kto = asked(calls, recipe, text, "--", "--weight_decay", "0.1")
    assert sft.request.training.extra_arguments == ("--packing", "true", "--weight_decay", "0.1")
    assert dpo.request.training.extra_arguments == ("--beta", "0.2", "--weight_decay", "0.1")
    assert kto.request.training.extra_arguments == ("--weight_decay", "0.1")


@pytest.mark.parametrize("text", ["model: m\ntasks: [sft, dpo]\n", "tasks:\n- {task: sft, model: m}\n- dpo\n"])
def test_the_command_line_s_model_is_the_one_that_the_first_phase_starts_from(
    calls: list[dict[str, Any]], recipe: Path, text: str
) -> None:
    assert [phase.request.model for phase in asked(calls, recipe, text)] == ["m", "sft"]
    assert [phase.request.model for phase in asked(calls, recipe, text, "--model", "n")] == ["n", "sft"]


def test_what_is_generated_is_the_business_of_phases_that_generate(calls: list[dict[str, Any]], recipe: Path) -> None:
    text = "model: m\nnum-generations: 4\ntasks: [sft, {task: grpo, reward: r:f}]\n"
    sft, grpo = asked(calls, recipe, text, "--completion-tokens", "16")
    assert (sft.request.generation, grpo.request.generation) == (Generation(), Generation(4, 16, (Reward("r:f"),)))


def test_whose_words_are_learned_is_the_business_of_supervised_fine_tuning(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], recipe: Path
) -> None:
    sft, dpo = asked(calls, recipe, "model: m\nlearn: all\ntasks: [sft, dpo]\n")
    assert (sft.request.learn, dpo.request.learn) == (Learn.ALL, Learn.ASSISTANT)
    for text in ("tasks: [sft, {task: dpo, learn: all}]", "learn: all\ntasks: [dpo]"):
        said = refused(capsys, recipe, f"model: m\n{text}\n")
        assert f"{recipe}, phase dpo: --learn all is for --task sft" in said


def test_a_recipe_with_tasks_may_be_a_list_of_one(calls: list[dict[str, Any]], recipe: Path) -> None:
    (only,) = asked(calls, recipe, "model: m\ntasks: [reward]\n")
    assert isinstance(only.request, Request)
    assert (only.name, only.request.training.merge) == ("reward", False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: m\ntasks: sft\n", "FILE: tasks needs a list"),
        ("model: m\ntasks: []\n", "FILE: tasks needs a list"),
        ("model: m\ntasks: [[sft]]\n", "FILE: each of tasks needs flags"),
        ("model: m\ntasks: [{}]\n", "FILE: each of tasks needs flags"),
        ("tasks: [sft]\n", "FILE, phase sft: Missing option '--model'"),
        ("model: m\ntasks: [sft, ppo]\n", "FILE, phase ppo: Invalid value for '--task': 'ppo' is not one of"),
        ("model: m\ntasks: [sft, {task: dpo, seq: many}]\n", "FILE, phase dpo: Invalid value for '--seq': 'many'"),
        ("model: m\ntasks: [sft, {task: dpo, sec: 1}]\n", "FILE, phase dpo: 'sec' is not a flag of autofit train"),
        ("model: m\ntasks: [sft, {task: dpo, max-steps: 0}]\n", "FILE, phase dpo: --max-steps 0 trains nothing"),
        ("model: m\ntasks: [sft, sft]\n", "FILE, phase sft: there are two of this name"),
        ("model: m\ntasks: [{name: ../up}]\n", "FILE: '../up' is no name for a phase"),
        ("model: m\ntasks: [{name: previous}]\n", "FILE: 'previous' is no name for a phase"),
        ("model: m\ntasks: [{name: [a]}]\n", "FILE: ['a'] is no name for a phase"),
        ("model: m\ntasks: [{arguments: [[x]]}]\n", "FILE, phase sft: arguments needs words as after --"),
        ("model: m\ntask: dpo\ntasks: [sft]\n", "FILE: task is of one training"),
        ("model: m\ntasks: [{task: sft, output-dir: o}]\n", "FILE, phase sft: output-dir is of all trainings"),
        ("model: previous\ntasks: [sft]\n", "FILE, phase sft: model previous needs a phase before this one"),
        ("model: dpo\ntasks: [sft, dpo]\n", "FILE, phase sft: model dpo needs a phase before this one"),
        ("model: sft\ntasks: [sft]\n", "FILE, phase sft: model sft needs a phase before this one"),
        ("model: m\ntasks: [reward, sft]\n", "FILE, phase sft: model previous needs a phase before this one that"),
        ("model: m\ntasks: [reward, {task: sft, model: reward}]\n", "and phase reward is none"),
        ("model: m\ntasks: [sft, grpo]\n", "FILE, phase grpo: --task grpo needs something that rewards"),
        ("model: m\ntasks: [sft, {task: grpo, reward: sft}]\n", "phase grpo: reward sft needs a phase before this one"),
        ("model: m\ntasks: [sft, {task: grpo, reward: previous}]\n", "that trains a reward model, and there is none"),
        ("model: m\nnum-generations: 4\ntasks: [sft]\n", "FILE, phase sft: --num-generations is for answers"),
        ("model: m\ntasks: [sft, {task: dpo, num-generations: 4}]\n", "FILE, phase dpo: --num-generations is for"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], recipe: Path, text: str, told: str
) -> None:
    said = refused(capsys, recipe, text)
    assert told.replace("FILE", str(recipe)) in said
    assert calls == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--task dpo", "--task is of one training"),
        ("--resume some/checkpoint", "--resume is of one training"),
        ("--seq many", "autofit: Invalid value for '--seq': 'many'"),
    ],
)
def test_what_makes_no_sense_on_the_command_line_is_not_the_recipe_s_fault(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], recipe: Path, words: str, told: str
) -> None:
    assert told in refused(capsys, recipe, "model: m\ntasks: [sft, dpo]\n", *words.split())
    assert calls == []


def test_a_phase_may_start_from_a_checkpoint(calls: list[dict[str, Any]], recipe: Path) -> None:
    sft, dpo = asked(calls, recipe, "model: m\ntasks: [{task: sft, resume: c}, dpo]\n", "--resume")
    assert (sft.request.training.resume, dpo.request.training.resume) == (None, None)  # the command line's is the last
    sft, dpo = asked(calls, recipe, "model: m\ntasks: [{task: sft, resume: c}, dpo]\n")
    assert (sft.request.training.resume, dpo.request.training.resume) == ("c", None)
