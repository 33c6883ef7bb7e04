"""A row of a table in one of few forms: a text, a prompt with its answer, a chat, or tokens with their labels."""

from __future__ import annotations

from collections.abc import Mapping

from .asked import after_context, asked_words, instruction_text
from .chat_turns import Turn, chat, text, turn, unheard
from .columns import INSTRUCTION_OUTPUTS, TURNS, Format, Pair, first_of, pair_of
from .token_row import IGNORED, token_row


def to_example(data_format: Format, row: Mapping[str, object]) -> dict[str, object]:
    """Brings a row into the form of `text`, `prompt` and `completion`, `messages` or `input_ids` and `labels`; BadRow
    names the wrong field.

    Beside `messages` stands as `unheard` what turns say that nothing follows from.
    """
    if data_format is Format.TEXT:
        return {"text": text("text", row.get("text"))}
    if data_format is Format.PROMPT_COMPLETION:
        return _from_pair(row)
    if data_format is Format.ALPACA:
        return _from_instruction(row)
    if data_format is Format.PRETOKENIZED:
        return {**token_row(row)}
    turns, silent = _turns_of(data_format, row)
    return {"messages": after_context(row, turns), "unheard": silent}


def teaches(example: Mapping[str, object], *, learns_all: bool = False) -> bool:
    """Whether there is anything to learn from what `to_example` gave: a text, an answer, a turn, a token."""
    if "messages" in example:
        turns = example["messages"]
        assert isinstance(turns, list)
        return any(_is_learned(turn, learns_all) and turn["content"].strip() for turn in turns)
    if "labels" in example:
        labels = example["labels"]
        assert isinstance(labels, list)
        return any(label != IGNORED for label in labels[1:])  # nothing foretells the first token
    return bool(str(example.get("completion", example.get("text"))).strip())


def _is_learned(turn: Turn, learns_all: bool) -> bool:
    return turn["is_learned"] is not False and (learns_all or turn["role"] == "assistant")


def _turns_of(data_format: Format, row: Mapping[str, object]) -> tuple[list[Turn], list[str]]:
    """The row's own turns, without what came before them, and what they say unheard."""
    if data_format is Format.PAIR_CHATS:
        pair = _pair(row)
        return _asked_and_answered(row, pair.prompt, pair.completion), []
    if data_format is Format.ALPACA_CHATS:
        return _asked_and_answered(row, "instruction", first_of(INSTRUCTION_OUTPUTS, list(row))), []
    column = first_of(TURNS, list(row))
    return chat(column, row.get(column)), unheard(column, row.get(column))


def _asked_and_answered(row: Mapping[str, object], question: str, answer: str) -> list[Turn]:
    return [turn("user", asked_words(question, row)), turn("assistant", text(answer, row[answer]))]


def _from_pair(row: Mapping[str, object]) -> dict[str, object]:
    pair = _pair(row)
    prompt, completion = text(pair.prompt, row[pair.prompt]), text(pair.completion, row[pair.completion])
    return {"prompt": prompt + pair.cue, "completion": completion}


def _from_instruction(row: Mapping[str, object]) -> dict[str, object]:
    output = first_of(INSTRUCTION_OUTPUTS, list(row))
    return {"prompt": instruction_text(row), "completion": text(output, row[output])}


def _pair(row: Mapping[str, object]) -> Pair:
    pair = pair_of(list(row))
    assert pair is not None  # the format says so
    return pair
