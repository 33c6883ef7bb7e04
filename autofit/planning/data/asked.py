"""What a row asks, before any answer: a text, or turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .chat_turns import Turn, history, text, turn, with_system
from .columns import HISTORIES, INSTRUCTION_INPUTS, PAIRS, SYSTEMS, context_columns, first_of
from .messages import answer_turns, are_turns

_INSTRUCTION = "instruction"
_CUES = {pair.prompt: pair.cue for pair in reversed(PAIRS)}  # trl's own pair last, which has none
ASKING = ("prompt", _INSTRUCTION, "question", "dialogue", "document")
"""Columns that ask, the first of which is taken; the order is that of supervised fine-tuning."""


def asking_columns(column: str, columns: Sequence[str], *, has_context: bool) -> tuple[str, ...]:
    """The columns that say what is asked, `column` first; `has_context`: with those that say what came before it."""
    further = first_of(INSTRUCTION_INPUTS, columns) if column == _INSTRUCTION else ""
    context = context_columns(columns) if has_context else ()
    return tuple(name for name in (column, further, *context) if name)


def asked_text(column: str, row: Mapping[str, object]) -> str:
    """The question in `column` as a text, with the words that ask for its answer."""
    return instruction_text(row) if column == _INSTRUCTION else text(column, row[column]) + _CUES.get(column, "")


def asked_turns(column: str, row: Mapping[str, object]) -> list[Turn]:
    """The question in `column` as turns, behind the row's system turn and history; text becomes a turn of the
    user's."""
    if are_turns(row[column]):
        return after_context(row, answer_turns(column, row[column]))
    return after_context(row, [turn("user", asked_words(column, row))])


def asked_words(column: str, row: Mapping[str, object]) -> str:
    """What stands in `column`, and behind it an instruction's input where the row has one."""
    extra = first_of(INSTRUCTION_INPUTS, list(row)) if column == _INSTRUCTION else ""
    parts = [text(column, row[column])]
    if row.get(extra) not in (None, ""):
        parts.append(text(extra, row[extra]))
    return "\n\n".join(parts)


def instruction_text(row: Mapping[str, object]) -> str:
    """The prompt in Alpaca's layout: headed sections, the input's left out where it is empty."""
    extra = first_of(INSTRUCTION_INPUTS, list(row))
    sections = [f"### Instruction:\n{text(_INSTRUCTION, row[_INSTRUCTION])}"]
    if row.get(extra) not in (None, ""):
        sections.append(f"### Input:\n{text(extra, row[extra])}")
    return "\n\n".join(["Carry out the task below.", *sections, "### Response:\n"])


def after_context(row: Mapping[str, object], turns: list[Turn]) -> list[Turn]:
    """The turns behind the row's system column and history; a system turn of their own stays the first."""
    system, past = first_of(SYSTEMS, list(row)), first_of(HISTORIES, list(row))
    own = turns[:1] if turns and turns[0]["role"] == "system" else []
    earlier = history(past, row.get(past)) if past else []
    return with_system(system, row.get(system) if system else None, [*own, *earlier, *turns[len(own) :]])
