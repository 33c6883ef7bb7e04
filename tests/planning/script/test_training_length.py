"""How long a script trains, by what says so, and which trainings a kept choice serves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autofit.domain.line_decision import Settled
from autofit.domain.outcome import Measured
from autofit.domain.script import LoadedCheckpoint, ScriptFacts
from autofit.domain.training_length import Said, SaidLength, SeenLength, TrainingLength
from autofit.planning.script.training_length import (
    holds_for,
    length_text,
    rest_of,
    said_length,
    training_length,
    why_nothing_pays,
    why_too_short_to_look,
)
from tests.builders import make_facts

NOTHING = SaidLength()
DECAY = {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 700}}}


def said(*words: str, **recipe: Any) -> SaidLength:
    return said_length(words, recipe, "recipe.yaml")


def seen(**shown: Any) -> ScriptFacts:
    return make_facts(length=SeenLength(**shown))


@pytest.mark.parametrize(
    ("words", "steps", "epochs"),
    [
        (("--max_steps", "300"), Said(300, "--max_steps"), None),
        (("--max-train-steps=300",), Said(300, "--max-train-steps"), None),
        (("--max_steps", "-1", "--num_train_epochs", "0.5"), None, Said(0.5, "--num_train_epochs")),
        (("--max_steps=-1", "--epochs", "3"), None, Said(3, "--epochs")),
        (("--max_steps", "5", "--max_steps", "7"), Said(7, "--max_steps"), None),
        (("--steps", "9", "--max_steps", "7"), Said(7, "--max_steps"), None),
        (("--train-iters", "1e3"), Said(1000, "--train-iters"), None),
        (("--max_steps", "many", "--logging_steps", "5"), None, None),
        ((), None, None),
    ],
)
def test_what_a_line_says(words: tuple[str, ...], steps: Said | None, epochs: Said | None) -> None:
    assert said(*words) == SaidLength(steps, epochs)


def test_a_line_goes_before_the_recipe_that_it_names() -> None:
    assert said("--max_steps", "5", max_steps=300).steps == Said(5, "--max_steps")
    assert said("--lr", "1", max_steps="300", num_train_epochs=2) == SaidLength(
        Said(300, "max_steps in recipe.yaml"), Said(2, "num_train_epochs in recipe.yaml")
    )
    assert said(max_steps=True, num_train_epochs=[3]) == NOTHING


@pytest.mark.parametrize(
    ("words", "config", "facts", "steps", "by"),
    [
        (("--max_steps", "300"), DECAY, None, 300, "--max_steps"),
        (("--max_steps", "300"), DECAY, seen(trainer_steps=300), 300, "--max_steps"),
        (("--max_steps", "300"), {}, seen(trainer_steps=20), 20, "its trainer"),
        (("--epochs", "3"), DECAY, seen(trainer_steps=90, epoch_rows=999), 90, "--epochs and its data"),
        (("--epochs", "3"), DECAY, seen(epoch_rows=165), 31, "--epochs and its data"),  # steps of 16 rows
        (("--epochs", "3"), {}, seen(), None, ""),
        ((), DECAY, None, 700, "scheduler.params.total_num_steps in its DeepSpeed config"),
        ((), DECAY, seen(scheduler_steps=20), 700, "scheduler.params.total_num_steps in its DeepSpeed config"),
        ((), {}, seen(scheduler_steps=20, epoch_rows=160), 20, "its learning-rate schedule"),
        ((), {}, seen(epoch_rows=160), None, ""),
        ((), {"scheduler": {"type": "WarmupLR", "params": {"total_num_steps": 5}}}, None, None, ""),
        ((), {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto"}}}, None, None, ""),
    ],
)  # fmt: skip
def test_the_surest_of_what_says_it_counts(
    words: tuple[str, ...], config: dict[str, Any], facts: ScriptFacts | None, steps: int | None, by: str
) -> None:
    assert training_length(said(*words), config, facts) == TrainingLength(steps, by)


def test_the_length_as_people_read_it() -> None:
    assert length_text(TrainingLength(3000, "--max_steps")) == "the training takes 3,000 steps, by --max_steps"
    assert length_text(TrainingLength(1, "--steps")) == "the training takes 1 step, by --steps"
    assert length_text(TrainingLength()) == "an hour is assumed: nothing says how long the script trains"


def test_a_trainer_that_goes_on_has_the_rest_before_it() -> None:
    loaded = LoadedCheckpoint("/out/checkpoint-60", (2,), 2)
    facts = replace(seen(trainer_steps=100), checkpoint=loaded)
    whole = TrainingLength(100, "its trainer")
    assert rest_of(whole, facts).step_count == 40
    assert rest_of(whole, replace(facts, checkpoint=replace(loaded, path="/out/best"))) == whole
    assert rest_of(whole, replace(facts, length=SeenLength())) == whole, "a loop may count from its start"
    assert rest_of(TrainingLength(50, "its trainer"), facts).step_count == 1


def test_what_takes_no_more_steps_than_a_search_is_not_looked_at() -> None:
    why = why_too_short_to_look(TrainingLength(5, "--max_steps"))
    assert why is not None
    assert why.startswith("the training takes 5 steps, by --max_steps, and a search would take as many")
    assert why_too_short_to_look(TrainingLength(7, "--max_steps")) is None
    assert why_too_short_to_look(TrainingLength()) is None


def test_a_training_shorter_than_another_start_is_not_probed() -> None:
    own = Measured(1, 1, 1000.0, step_s=0.5, micro_step_s=0.5, update_s=0.0, total_s=12.5)  # of it 10 s its start
    why = why_nothing_pays(TrainingLength(18, "--max_steps"), own)
    assert why == "stopped: another start of the script would cost 10 s, and the training takes 9.0 s"
    assert why_nothing_pays(TrainingLength(21, "--max_steps"), own) is None
    assert why_nothing_pays(TrainingLength(), own) is None


def settled(length: int | None, reach_s: float | None = None, **more: Any) -> Settled:
    words = NOTHING if length is None else SaidLength(Said(length, "--max_steps"))
    return Settled(words, TrainingLength(length), reach_s=reach_s, **more)


@pytest.mark.parametrize(
    ("kept", "asked", "holds"),
    [
        (settled(10, 60.0), settled(10), True),
        (settled(10, 60.0), settled(30), True),  # of 2 s each
        (settled(10, 60.0), settled(31), False),
        (settled(10, 60.0), settled(None), False),  # an hour
        (settled(10, None), settled(10**9), True),
        (settled(None, 5000.0), settled(10), True),
        (settled(None, 5000.0), settled(2501), False),
        (None, settled(1800), True),  # kept before lengths were: an hour
        (None, settled(1801), False),
        (None, settled(None), True),
        (settled(10, 60.0), settled(10, tolerance=0.01), False),
        (settled(10, 60.0, tolerance=0.01), settled(10, tolerance=0.01), True),
        (settled(10, 60.0, tolerance=0.05), settled(10, tolerance=0.01), False),
        (None, settled(10, tolerance=0.01), False),
    ],
)
def test_a_kept_choice_serves_what_it_holds_for(kept: Settled | None, asked: Settled, holds: bool) -> None:
    assert holds_for(kept, asked, step_s=2.0) is holds


def test_more_epochs_of_the_same_data_are_counted() -> None:
    kept = Settled(said("--epochs", "1"), TrainingLength(50, ""), reach_s=300.0, epoch_steps=50.0)
    assert holds_for(kept, Settled(said("--epochs", "3"), TrainingLength()), step_s=2.0)
    assert not holds_for(kept, Settled(said("--epochs", "4"), TrainingLength()), step_s=2.0)
