"""How many answers a rank generates, for a step and for an evaluation."""

from __future__ import annotations

from math import lcm

import pytest

from autofit.domain.request import Generation, Request, Reward, Training
from autofit.domain.task import Task
from autofit.planning.answers import evaluated_rows, gathering_asked, generated_rows
from tests.builders import make_request


def asked(*words: str, answers: int = 8, batch: int = 48) -> Request:
    return make_request(
        task=Task.GRPO,
        global_batch=batch,
        generation=Generation(answers, 16, (Reward("rewards.py:brief"),)),
        training=Training(extra_arguments=words),
    )


def test_a_rank_generates_its_share_of_a_step_and_other_tasks_nothing() -> None:
    assert generated_rows(asked(), 6) == 8
    assert generated_rows(make_request(global_batch=48), 6) == 0


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("micro_batch", [1, 2, 8])
def test_an_evaluation_has_whole_groups_and_no_more_answers_than_a_step(micro_batch: int, ranks: int) -> None:
    batch = 48 * micro_batch
    rows = evaluated_rows(asked(batch=batch), micro_batch, ranks)
    assert rows >= micro_batch
    assert rows * ranks % 8 == 0
    assert rows <= max(generated_rows(asked(batch=batch), ranks), micro_batch)
    assert rows - lcm(8, ranks) // ranks < micro_batch  # the fewest


def test_the_evaluation_may_have_another_number_of_answers() -> None:
    assert evaluated_rows(asked("--num_generations_eval", "2"), 1, 2) == 1
    assert evaluated_rows(make_request(), 3, 2) == 3


def test_gathering_is_left_to_the_estimate_unless_it_is_asked_for() -> None:
    assert gathering_asked(asked()) is None
    assert gathering_asked(asked("--ds3_gather_for_generation", "false")) is False
    assert gathering_asked(asked("--ds3-gather-for-generation")) is True
    assert gathering_asked(asked("--no_ds3_gather_for_generation")) is False
