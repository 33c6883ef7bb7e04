"""When a training saves and evaluates: its flags, what stands after the dashes, and what the best model wants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autofit.domain.request import Request, Training
from autofit.planning.data.step_count import step_count
from autofit.worker.training.schedule_arguments import schedule_arguments, schedule_notes

REQUEST = Request("m", 64, eval_fraction=0.1, training=Training(save_steps=500))


def schedule(**extra: Any) -> dict[str, Any]:
    """What the trainer is told in the end."""
    return {**schedule_arguments(REQUEST, extra), **extra}


def test_the_flags_are_the_schedule() -> None:
    training = Training(max_steps=7, save_steps=3, report_to=("wandb",))
    plain = schedule_arguments(Request("m", 64, training=training), {})
    assert (plain["max_steps"], plain["save_steps"], plain["eval_strategy"]) == (7, 3, "no")
    assert plain["report_to"] == ["wandb"]
    told = schedule_arguments(REQUEST, {})
    assert (told["max_steps"], told["eval_steps"], told["report_to"]) == (-1, 500, "none")


def test_what_stands_after_the_dashes_goes_before_the_flags() -> None:
    told = schedule_arguments(REQUEST, {"save_total_limit": 5, "eval_strategy": "epoch"})
    assert not {"save_total_limit", "eval_strategy"} & set(told)


@pytest.mark.parametrize("given", [{"eval_data": "e.jsonl"}, {"eval_fraction": 0.1}], ids=str)
def test_evaluation_comes_with_its_data(given: dict[str, object]) -> None:
    assert schedule_arguments(replace(Request("m", 64), **given), {})["eval_strategy"] == "steps"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("extra", "saving", "evaluation", "save_steps"),
    [
        ({}, "steps", "steps", 500),
        ({"eval_strategy": "epoch"}, "epoch", "epoch", 500),
        ({"save_strategy": "epoch"}, "epoch", "epoch", 500),
        ({"eval_steps": 50}, "steps", "steps", 500),
        ({"eval_steps": 300}, "steps", "steps", 300),
        ({"eval_steps": 240}, "steps", "steps", 480),
        ({"eval_steps": 700}, "steps", "steps", 700),
        ({"eval_steps": 0.25}, "steps", "steps", 0.25),
        ({"eval_strategy": "epoch", "save_strategy": "epoch"}, "epoch", "epoch", 500),
    ],
    ids=str,
)
def test_the_best_model_is_saved_when_it_is_evaluated(
    extra: dict[str, Any], saving: str, evaluation: str, save_steps: float
) -> None:
    told = schedule(load_best_model_at_end=True, **extra)
    assert (told["save_strategy"], told["eval_strategy"], told["save_steps"]) == (saving, evaluation, save_steps)
    notes = schedule_notes(REQUEST, {"load_best_model_at_end": True, **extra}, 1000)
    assert bool(notes) == (save_steps != 500)


@pytest.mark.parametrize(
    ("extra", "is_told"), [({}, True), ({"eval_steps": 20}, False), ({"eval_strategy": "epoch"}, False)], ids=str
)
def test_a_training_that_ends_before_its_first_evaluation_is_told_of(extra: dict[str, Any], is_told: bool) -> None:
    request = replace(REQUEST, global_batch=8, training=Training(epochs=2.5))
    steps = step_count(request, 90)
    assert steps == 30
    notes = schedule_notes(request, {"load_best_model_at_end": True, **extra}, steps)
    assert any("30 steps are less than the 500" in note for note in notes) == is_told
    assert not schedule_notes(request, {"eval_steps": 7}, steps)


def test_without_the_best_model_nothing_follows() -> None:
    told = schedule(eval_strategy="epoch", eval_steps=300, load_best_model_at_end=False)
    assert (told["save_strategy"], told["save_steps"]) == ("steps", 500)
    assert schedule(save_strategy="epoch")["eval_strategy"] == "steps"


def test_saving_the_best_alone_has_its_measure() -> None:
    told = schedule(save_strategy="best", load_best_model_at_end=True)
    assert (told["metric_for_best_model"], told["eval_strategy"]) == ("loss", "steps")
    assert schedule(save_strategy="best", metric_for_best_model="eval_loss")["metric_for_best_model"] == "eval_loss"
