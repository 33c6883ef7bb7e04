"""A row of a table in one of few forms: a text, a prompt with its answer, a chat, or tokens with their labels."""

from __future__ import annotations

from collections.abc import Mapping

from .chat_turns import Turn, chat, history, text, turn, unheard, with_system
from .columns import HISTORIES, INSTRUCTION_INPUTS, INSTRUCTION_OUTPUTS, SYSTEMS, TURNS, Format, Pair, first_of, pair_of
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
    return {"messages": _after_context(row, turns), "unheard": silent}


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
        return _asked_and_answered(row, pair.prompt, pair.completion, ""), []
    if data_format is Format.ALPACA_CHATS:
        extra, output = first_of(INSTRUCTION_INPUTS, list(row)), first_of(INSTRUCTION_OUTPUTS, list(row))
        return _asked_and_answered(row, "instruction", output, extra), []
    column = first_of(TURNS, list(row))
    return chat(column, row.get(column)), unheard(column, row.get(column))


def _asked_and_answered(row: Mapping[str, object], question: str, answer: str, extra: str) -> list[Turn]:
    parts = [text(question, row[question])]
    if row.get(extra) not in (None, ""):
        parts.append(text(extra, row[extra]))
    return [turn("user", "\n\n".join(parts)), turn("assistant", text(answer, row[answer]))]


def _after_context(row: Mapping[str, object], turns: list[Turn]) -> list[Turn]:
    """The turns behind the row's system column and history; a system turn of their own stays the first."""
    system, past = first_of(SYSTEMS, list(row)), first_of(HISTORIES, list(row))
    own = turns[:1] if turns and turns[0]["role"] == "system" else []
    earlier = history(past, row.get(past)) if past else []
    return with_system(system, row.get(system) if system else None, [*own, *earlier, *turns[len(own) :]])


def _from_pair(row: Mapping[str, object]) -> dict[str, object]:
    pair = _pair(row)
    prompt, completion = text(pair.prompt, row[pair.prompt]), text(pair.completion, row[pair.completion])
    return {"prompt": prompt + pair.cue, "completion": completion}


def _from_instruction(row: Mapping[str, object]) -> dict[str, object]:
    """The prompt in Alpaca's layout: headed sections, the input's left out where it is empty."""
    extra, output = first_of(INSTRUCTION_INPUTS, list(row)), first_of(INSTRUCTION_OUTPUTS, list(row))
    sections = [f"### Instruction:\n{text('instruction', row['instruction'])}"]
    if row.get(extra) not in (None, ""):
        sections.append(f"### Input:\n{text(extra, row[extra])}")
    prompt = "\n\n".join(["Carry out the task below.", *sections, "### Response:\n"])
    return {"prompt": prompt, "completion": text(output, row[output])}


def _pair(row: Mapping[str, object]) -> Pair:
    pair = pair_of(list(row))
    assert pair is not None  # the format says so
    return pair
