"""Turns as the trainers of trl take them beside supervised fine-tuning: messages of a role and its content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from .chat_turns import MARKS, REASONING, BadRow, Turn, chat, turn, unheard

Message = dict[str, object]


def are_turns(value: object) -> bool:
    """Whether a value is turns, one or a list of them, or text that holds such a list as JSON; other text is words."""
    return isinstance(_read(value), (list, Mapping))


def messages(name: str, turns: Iterable[Turn]) -> list[Message]:
    """The turns as messages; BadRow where there are none: trl looks at the first one for the form of the data."""
    made: list[Message] = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    if not made:
        raise BadRow(f"{name} holds no turn")
    return made


def answer_turns(name: str, value: object) -> list[Turn]:
    """The turns of an answer: a list of them, one alone, or the words of the assistant's."""
    value = _read(value)
    if isinstance(value, str):
        return [turn("assistant", value)]
    return chat(name, [value] if isinstance(value, Mapping) else value)


def left_unsaid(row: Mapping[str, object], names: Sequence[str]) -> list[str]:
    """What turns in the columns `names`, which `chat` takes, say and messages do not: keys that nobody reads, what a
    model thought, which turns are learned."""
    said: set[str] = set()
    for name in names:
        value = _read(row.get(name))
        turns = [value] if isinstance(value, Mapping) else value
        if isinstance(turns, list):
            said.update(unheard(name, turns))
            said.update(key for one in turns for key in (*REASONING, *MARKS, "loss") if one.get(key) is not None)
    return sorted(said)


def _read(value: object) -> object:
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        turns = json.loads(value)
    except json.JSONDecodeError:
        return value
    return turns if turns and all(isinstance(one, Mapping) for one in turns) else value
