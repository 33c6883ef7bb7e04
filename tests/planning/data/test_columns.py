"""Columns are recognized in the documented order, rows become examples, and what is wrong is named."""

from __future__ import annotations

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.task import Task
from autofit.planning.data.chat_turns import BadRow, turn
from autofit.planning.data.columns import Format, used_columns
from autofit.planning.data.example import teaches, to_example
from autofit.planning.data.task_rows import recognize

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "a"}, Format.TEXT),
        ({"prompt": "a", "completion": "b"}, Format.PROMPT_COMPLETION),
        ({"prompt": "a", "response": "b"}, Format.PROMPT_COMPLETION),
        ({"id": 1, "question": "a", "answer": "b"}, Format.PROMPT_COMPLETION),
        ({"dialogue": "a", "summary": "b"}, Format.PROMPT_COMPLETION),
        ({"document": "a", "summary": "b"}, Format.PROMPT_COMPLETION),
        ({"messages": TURNS}, Format.MESSAGES),
        ({"conversation": TURNS}, Format.MESSAGES),
        ({"instruction": "a", "output": "b"}, Format.ALPACA),
        ({"instruction": "a", "context": "", "response": "b"}, Format.ALPACA),
        ({"conversations": SHAREGPT}, Format.SHAREGPT),
        ({"input_ids": [1, 2]}, Format.PRETOKENIZED),
    ],
)
def test_each_layout_is_recognized(row: dict[str, object], expected: Format) -> None:
    assert recognize(Task.SFT, list(row), row) is expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "a", "input_ids": [1]}, Format.PRETOKENIZED),
        ({"prompt": "a", "messages": TURNS}, Format.MESSAGES),
        ({"instruction": "a", "output": "b", "text": "a and b"}, Format.ALPACA),
        ({"instruction": "a", "output": "b", "prompt": "a", "completion": "b"}, Format.PROMPT_COMPLETION),
        ({"instruction": "a", "output": "b", "question": "a", "answer": "b"}, Format.ALPACA),
        ({"messages": "plain words", "text": "a"}, Format.TEXT),
    ],
)
def test_where_several_fit_the_documented_order_decides(row: dict[str, object], expected: Format) -> None:
    assert recognize(Task.SFT, list(row), row) is expected


def test_the_spelling_of_the_turns_decides_not_the_name_of_their_column() -> None:
    assert recognize(Task.SFT, ["conversations"], {"conversations": TURNS}) is Format.MESSAGES
    assert recognize(Task.SFT, ["messages"], {"messages": SHAREGPT}) is Format.SHAREGPT
    assert recognize(Task.SFT, ["conversations"], {"conversations": []}) is Format.SHAREGPT


def test_unknown_columns_are_named_with_those_that_work() -> None:
    with pytest.raises(UsageError) as caught:
        recognize(Task.SFT, ["id", "body"], {"id": 1, "body": "a"})
    first, second = str(caught.value).splitlines()
    assert "id, body" in first
    assert all(name in second for name in ("text", "prompt and completion", "messages", "conversations", "input_ids"))


def test_prompt_and_completion_are_taken_word_for_word() -> None:
    row = {"prompt": "2 + 2 =", "completion": " 4"}
    assert to_example(Format.PROMPT_COMPLETION, row) == row


def test_a_dialogue_gets_a_cue_that_ends_in_a_line_break() -> None:
    example = to_example(Format.PROMPT_COMPLETION, {"dialogue": "A: Hi", "summary": "They greet."})
    assert example == {"prompt": "A: Hi\n\nSummary:\n", "completion": "They greet."}


@pytest.mark.parametrize("empty", ["", None])
def test_an_instruction_shows_its_input_only_where_it_has_one(empty: str | None) -> None:
    with_input = to_example(Format.ALPACA, {"instruction": "Translate.", "input": "chat", "output": "cat"})
    without = to_example(Format.ALPACA, {"instruction": "Sing.", "input": empty, "output": "la"})
    assert "### Instruction:\nTranslate.\n\n### Input:\nchat\n\n### Response:\n" in str(with_input["prompt"])
    assert "Input" not in str(without["prompt"])
    assert without["completion"] == "la"


def test_sharegpt_speakers_become_roles() -> None:
    turns = [{"from": speaker, "value": "x"} for speaker in ("system", "human", "gpt", "tool", "user", "bot")]
    messages = to_example(Format.SHAREGPT, {"conversations": turns})["messages"]
    assert isinstance(messages, list)
    assert [turn["role"] for turn in messages] == ["system", "user", "assistant", "tool", "user", "assistant"]


def test_text_parts_of_a_message_are_joined_and_other_keys_named() -> None:
    parts = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]
    example = to_example(Format.MESSAGES, {"messages": [{"role": "user", "content": parts, "name": "Ann"}]})
    assert example == {"messages": [turn("user", "Hi there")], "unheard": ["name"]}


@pytest.mark.parametrize(
    ("data_format", "row", "problem"),
    [
        (Format.TEXT, {"text": None}, "text is null, not text"),
        (Format.PROMPT_COMPLETION, {"prompt": "a", "completion": 3}, "completion is a number, not text"),
        (Format.PROMPT_COMPLETION, {"question": ["a"], "answer": "b"}, "question is a list, not text"),
        (Format.ALPACA, {"instruction": "a", "input": {"k": 1}, "output": "b"}, "input is an object, not text"),
        (Format.MESSAGES, {"messages": "Hi"}, "messages is text, not a list of turns"),
        (Format.MESSAGES, {"messages": [*TURNS, "Bye"]}, "messages[2] is text, not a turn"),
        (Format.MESSAGES, {"messages": [{"role": "user", "content": None}]}, "messages[0].content is null, not text"),
        (Format.MESSAGES, {"messages": [{**TURNS[1], "tool_calls": [{"id": 1}]}]}, "messages[0] calls tools"),
        (Format.SHAREGPT, {"conversations": [{"from": "narrator", "value": "a"}]}, "from is 'narrator'"),
        (Format.PRETOKENIZED, {"input_ids": [1, "2"]}, "input_ids holds text, not whole numbers alone"),
    ],
)
def test_a_wrong_field_is_named(data_format: Format, row: dict[str, object], problem: str) -> None:
    with pytest.raises(BadRow) as caught:
        to_example(data_format, row)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("data_format", "columns", "used"),
    [
        (Format.ALPACA, ["id", "instruction", "output"], ("instruction", "output")),
        (Format.PROMPT_COMPLETION, ["id", "summary", "dialogue"], ("dialogue", "summary")),
        (Format.PRETOKENIZED, ["labels", "id", "input_ids", "loss_mask"], ("input_ids", "labels", "loss_mask")),
        (Format.MESSAGES, ["id", "messages", "system"], ("messages", "system")),
        (Format.ALPACA_CHATS, ["history", "instruction", "output"], ("instruction", "output", "history")),
    ],
)
def test_only_the_columns_that_training_reads_are_used(
    data_format: Format, columns: list[str], used: tuple[str, ...]
) -> None:
    assert used_columns(data_format, columns) == used


def test_an_example_without_anything_to_learn_is_seen() -> None:
    assert not teaches({"text": " \n"})
    assert not teaches({"prompt": "a question", "completion": ""})
    turns = [turn("user", "Hi"), turn("assistant", "Hello")]
    assert not teaches({"messages": turns[:1]})
    assert teaches({"messages": turns[:1]}, learns_all=True)
    assert not teaches({"messages": [turns[0], {**turns[1], "is_learned": False}]})
    assert not teaches({"messages": []})
    assert not teaches({"input_ids": [], "labels": []})
    assert not teaches({"input_ids": [7, 8], "labels": [7, -100]})  # nothing foretells the first
    assert all(teaches(row) for row in ({"text": "a"}, {"prompt": "", "completion": "b"}, {"messages": turns}))
