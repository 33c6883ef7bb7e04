"""How many steps a training takes, by its task."""

from __future__ import annotations

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.request import Generation, Request, Training
from autofit.domain.task import Task
from autofit.planning.data.step_count import check_prompts, prompts_per_step, step_count
from tests.builders import make_request


def asked(task: Task, *, batch: int = 8, epochs: float = 2.0, **training: int) -> Request:
    return make_request(
        task=task, global_batch=batch, generation=Generation(4), training=Training(epochs=epochs, **training)
    )


@pytest.mark.parametrize("task", [task for task in Task if not task.traits.generates])
def test_an_epochs_last_batch_is_a_step_although_it_is_no_whole_one(task: Task) -> None:
    assert [step_count(asked(task), rows) for rows in (1, 8, 9, 17)] == [2, 2, 4, 6]


def test_a_step_takes_as_many_prompts_as_its_answers_need_and_leaves_the_rest_of_an_epoch() -> None:
    request = asked(Task.GRPO)
    assert prompts_per_step(request) == 2
    assert [step_count(request, prompts) for prompts in (2, 3, 4, 9)] == [2, 2, 4, 8]
    assert step_count(asked(Task.GRPO, max_steps=5), 9) == 5


def test_answers_to_a_prompt_are_not_divided_among_steps() -> None:
    with pytest.raises(UsageError, match="use --batch-size 8, or a --num-generations that divides 9"):
        step_count(asked(Task.GRPO, batch=9), 100)


def test_fewer_prompts_than_one_step_takes_are_refused() -> None:
    check_prompts(asked(Task.GRPO), "p.jsonl", 2)
    with pytest.raises(
        UsageError, match=r"p\.jsonl: one step takes 2 prompts \(4 .* there are 1: use --batch-size 4 or less"
    ):
        check_prompts(asked(Task.GRPO), "p.jsonl", 1)
