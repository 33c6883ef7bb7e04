"""Each task takes the columns that its trainer of trl takes, in trl's own forms, and names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.task import Task
from autofit.planning.data.chat_turns import BadRow
from autofit.planning.data.columns import Format, with_context
from autofit.planning.data.task_rows import columns_of, example_of, recognize

USER, GOOD, BAD = (
    {"role": role, "content": words} for role, words in zip(("user", *["assistant"] * 2), "qab", strict=True)
)
SHARE = {"from": "gpt", "value": "a"}
WHOLE = {"chosen": [USER, GOOD], "rejected": [USER, BAD]}
ANSWERS = {"chosen": [GOOD], "rejected": [BAD]}
TEXTS = {"chosen": "a", "rejected": "b"}
PAIRS = (Task.REWARD, Task.DPO, Task.KTO)


def example(task: Task, row: dict[str, Any], data_format: Format | None = None) -> dict[str, Any]:
    """What becomes of a row whose table has its columns."""
    found = data_format or recognize(task, list(row), row)
    return example_of(task, found, {name: row[name] for name in columns_of(task, found, list(row))})


@pytest.mark.parametrize("task", PAIRS)
@pytest.mark.parametrize(
    ("row", "made"),
    [
        ({"prompt": "q", **TEXTS}, {"prompt": "q", **TEXTS}),
        ({"chosen": "qa", "rejected": "qb"}, {"chosen": "qa", "rejected": "qb"}),
        ({"question": "q", **TEXTS}, {"prompt": "q\n\nAnswer:\n", **TEXTS}),
        ({"prompt": [USER], **ANSWERS}, {"prompt": [USER], **ANSWERS, "unheard": []}),
        (WHOLE, {**WHOLE, "unheard": []}),
        # A prompt as text beside whole conversations is one more copy of what both begin with.
        ({"prompt": "q", **WHOLE}, {**WHOLE, "unheard": []}),
        ({"prompt": "q", **ANSWERS}, {"prompt": [USER], **ANSWERS, "unheard": []}),
        ({"prompt": [USER], **TEXTS}, {"prompt": [USER], **ANSWERS, "unheard": []}),
        (
            {"conversations": [{"from": "human", "value": "q"}], "chosen": SHARE, "rejected": {**SHARE, "value": "b"}},
            {"prompt": [USER], **ANSWERS, "unheard": []},
        ),
        (
            {
                "chosen": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]',
                "rejected": [USER, BAD],
            },
            {**WHOLE, "unheard": []},
        ),
    ],
)
def test_preferences_come_in_trls_forms(task: Task, row: dict[str, Any], made: dict[str, Any]) -> None:
    assert example(task, row) == made


def test_an_instruction_with_its_input_is_asked_in_alpacas_layout() -> None:
    made = example(Task.DPO, {"instruction": "Translate.", "input": "chat", **TEXTS})
    assert made["prompt"].endswith("### Instruction:\nTranslate.\n\n### Input:\nchat\n\n### Response:\n")


@pytest.mark.parametrize("task", [Task.REWARD, Task.DPO, Task.KTO, Task.GRPO])
def test_a_system_column_makes_turns_of_texts(task: Task) -> None:
    row = {"system": "s", "prompt": "q", "completion": "a", "label": True, **TEXTS}
    data_format = with_context(recognize(task, list(row), row))
    assert data_format.is_conversational
    assert example(task, row, data_format)["prompt"] == [{"role": "system", "content": "s"}, USER]


def test_what_messages_leave_out_is_told() -> None:
    thought = {**GOOD, "reasoning_content": "hm", "weight": 1, "id": 7}
    assert example(Task.DPO, {"chosen": [USER, thought], "rejected": [USER, BAD]})["unheard"] == [
        "id", "reasoning_content", "weight",
    ]  # fmt: skip


def test_a_margin_is_the_reward_trainers_alone() -> None:
    row = {"prompt": "q", **TEXTS, "margin": 2}
    assert example(Task.REWARD, row)["margin"] == 2.0
    assert "margin" not in example(Task.DPO, row)


@pytest.mark.parametrize(
    ("row", "made"),
    [
        ({"prompt": "q", "completion": "a", "label": True}, {"prompt": "q", "completion": "a", "label": True}),
        ({"prompt": "q", "completion": "a", "label": 0}, {"prompt": "q", "completion": "a", "label": False}),
        ({"prompt": "q", "completion": "a", "label": " True"}, {"prompt": "q", "completion": "a", "label": True}),
        ({"prompt": "q", "response": "a", "label": "0"}, {"prompt": "q\n\n", "completion": "a", "label": False}),
        (
            {"prompt": [USER], "completion": [GOOD], "label": True},
            {"prompt": [USER], "completion": [GOOD], "label": True, "unheard": []},
        ),
        (
            {"prompt": "q", "completion": [GOOD], "label": True},
            {"prompt": [USER], "completion": [GOOD], "label": True, "unheard": []},
        ),
    ],
)
def test_judged_answers_come_in_trls_forms(row: dict[str, Any], made: dict[str, Any]) -> None:
    assert example(Task.KTO, row) == made


def test_a_judged_instruction_is_asked_as_it_is_to_be_learned() -> None:
    made = example(Task.KTO, {"instruction": "Sing.", "output": "la", "label": True})
    assert made["prompt"].endswith("### Instruction:\nSing.\n\n### Response:\n")
    assert (made["completion"], made["label"]) == ("la", True)


@pytest.mark.parametrize(
    ("row", "made"),
    [
        ({"prompt": "q", "answer": 4}, {"prompt": "q", "answer": 4}),
        ({"question": "q", "answer": "4"}, {"question": "q", "answer": "4", "prompt": "q\n\nAnswer:\n"}),
        ({"prompt": [USER], "answer": 4}, {"prompt": [USER], "answer": 4, "unheard": []}),
        # What trl gives a reward function itself cannot come from the data, and pictures are for other models.
        ({"prompt": "q", "completion": "a", "completions": "b", "images": []}, {"prompt": "q"}),
    ],
)
def test_prompts_keep_the_columns_that_rewards_may_ask_for(row: dict[str, Any], made: dict[str, Any]) -> None:
    assert example(Task.GRPO, row) == made


@pytest.mark.parametrize(
    ("task", "row", "problem"),
    [
        (Task.DPO, {"prompt": "q", **TEXTS, "rejected": None}, "rejected is null, not text"),
        (Task.DPO, {"prompt": 3, **TEXTS}, "prompt is a number, not text"),
        (Task.REWARD, {**TEXTS, "rejected": ""}, "rejected is empty"),
        (Task.REWARD, {**WHOLE, "rejected": "b"}, "rejected is text, not a list of turns"),
        (Task.REWARD, {**WHOLE, "rejected": []}, "rejected holds no turn"),
        (Task.REWARD, {"prompt": [], **ANSWERS}, "prompt holds no turn"),
        (Task.REWARD, {"prompt": [USER], **ANSWERS, "chosen": [{"role": "assistant"}]}, "chosen[0].content is null"),
        (Task.REWARD, {"prompt": "q", **TEXTS, "margin": "2"}, "margin is text, not a number"),
        (Task.DPO, TEXTS, "differ from the first character on, and there is no prompt"),
        (Task.KTO, {**WHOLE, "rejected": [{**USER, "content": "r"}, BAD]}, "differ from the first turn on"),
        (Task.DPO, {**ANSWERS, "rejected": [GOOD]}, "chosen or rejected is one turn alone"),
        (Task.KTO, {"prompt": "q", "completion": "a", "label": 2}, "label is 2: an answer is good (true) or bad"),
        (Task.KTO, {"prompt": "q", "completion": "a", "label": "yes"}, "label is 'yes'"),
        (Task.KTO, {"prompt": "q", "completion": "a", "label": None}, "label is null"),
        (Task.KTO, {"prompt": "q", "completion": None, "label": 1}, "completion is null, not text"),
        (Task.GRPO, {"prompt": None}, "prompt is null, not text"),
        (Task.GRPO, {"prompt": [{"role": "user"}]}, "prompt[0].content is null, not text"),
    ],
)
def test_a_wrong_field_is_named(task: Task, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadRow) as caught:
        example(task, row)
    assert problem in str(caught.value)


def test_answers_without_a_prompt_can_be_scored_for_they_need_none_in_common() -> None:
    assert example(Task.REWARD, TEXTS) == TEXTS


@pytest.mark.parametrize(
    ("task", "columns", "works", "tasks"),
    [
        (
            Task.SFT,
            ["prompt", "chosen", "rejected"],
            "messages",
            "--task reward or --task dpo or --task kto or --task grpo",
        ),
        (Task.REWARD, ["prompt", "completion"], "chosen and rejected", "--task sft or --task grpo"),
        (Task.DPO, ["prompt", "completion", "label"], "chosen and rejected", "--task sft or --task kto or --task grpo"),
        (Task.KTO, ["text"], "label", "--task sft"),
        (Task.GRPO, ["text"], "prompt", "--task sft"),
    ],
)
def test_a_wrong_file_gets_its_columns_those_that_work_and_the_task_that_takes_them(
    task: Task, columns: list[str], works: str, tasks: str
) -> None:
    with pytest.raises(UsageError) as caught:
        recognize(task, columns, dict.fromkeys(columns, "x"))
    first, second, third = str(caught.value).splitlines()
    assert ", ".join(columns) in first
    assert (f"--task {task.value}" in first) is (task is not Task.SFT)
    assert works in second
    assert third == f"These columns would do for {tasks}."


@pytest.mark.parametrize("task", Task)
def test_columns_that_no_task_takes_get_no_hint(task: Task) -> None:
    with pytest.raises(UsageError) as caught:
        recognize(task, ["id", "body"], {"id": 1, "body": "x"})
    assert "would do" not in str(caught.value)
