"""The turns of a conversation, in either spelling, and the checks of a row's fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

ROLES = {
    "human": "user", "user": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant", "assistant": "assistant",
    "system": "system",
    "tool": "tool", "observation": "tool",
}  # fmt: skip
MARKS = ("weight", "train", "training", "trainable", "train_on_turn", "learn")
"""Keys that say of a turn whether it is learned: 0 or false, 1 or true. So does `loss` as true or false, no number."""
REASONING = ("reasoning_content", "reasoning", "thinking")
_HEARD = {"role", "content", "from", "value", "loss", *MARKS, *REASONING}

Turn = dict[str, object]
"""A turn has `role` and `content`, `reasoning` (text or None), `is_learned` (as marked; None where nothing is
marked)."""


class BadRow(ValueError):
    """A row that cannot be trained on; the message says which field and why, without the row's place."""


def json_type(value: object) -> str:
    """What a value is, in the words of a JSON user."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    names = ((str, "text"), (Mapping, "an object"), (list, "a list"))
    return next((name for python, name in names if isinstance(value, python)), f"a {type(value).__name__}")


def text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{name} is {json_type(value)}, not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRow(f"{name} holds half a character ({value[error.start]!a} at {error.start + 1:,})") from error
    return value


def listed(name: str, value: object) -> object:
    """The value, or where it is text that holds a JSON list, that list; BadRow where it looks like one and is none."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise BadRow(f"{name} is text and no JSON list of turns ({error.msg})") from error


def is_from_value(column: str, turns: object) -> bool:
    """ShareGPT's spelling (from, value) rather than role and content; an empty list goes by the column's name."""
    first = turns[0] if isinstance(turns, list) and turns else None
    if isinstance(first, Mapping):
        return first.get("from") is not None
    return column == "conversations"


def chat(column: str, turns: object) -> list[Turn]:
    """Reads `turns`, a list or one held as JSON text; BadRow names the first turn that is not one."""
    turns = listed(column, turns)
    if not isinstance(turns, list):
        raise BadRow(f"{column} is {json_type(turns)}, not a list of turns")
    return [_turn(f"{column}[{i}]", turn) for i, turn in enumerate(turns)]


def turn(role: str, content: str) -> Turn:
    """A turn of which nothing else is said."""
    return {"role": role, "content": content, "reasoning": None, "is_learned": None}


def unheard(column: str, turns: object) -> list[str]:
    """What turns that `chat` takes say although nothing follows from it: keys, and marks that ask to learn another's
    turn."""
    turns = listed(column, turns)
    assert isinstance(turns, list)
    keys = {key for turn in turns for key, value in turn.items() if key not in _HEARD and value not in (None, [], "")}
    for turn in turns:
        role = ROLES.get(turn.get("from") or turn.get("role"), "other")
        keys |= {f"{name} of {role} turns" for name, mark in _marks(turn).items() if role != "assistant" and mark}
        keys |= {"loss"} if turn.get("loss") is not None and "loss" not in _marks(turn) else set()
    return sorted(keys)


def with_system(name: str, system: object, turns: Sequence[Turn]) -> list[Turn]:
    """The turns behind a system turn of `system`; BadRow where they begin with another one."""
    if system in (None, ""):
        return list(turns)
    words = text(name, system)
    if not turns or turns[0]["role"] != "system":
        return [turn("system", words), *turns]
    if turns[0]["content"] != words:
        raise BadRow(f"{name} says one thing and the system turn another")
    return list(turns)


def history(name: str, value: object) -> list[Turn]:
    """Earlier turns: a list of pairs (what was asked, what was answered) or of turns."""
    value = listed(name, value)
    if value in (None, "", []):
        return []
    if not isinstance(value, list):
        raise BadRow(f"{name} is {json_type(value)}, not a list of earlier turns")
    if isinstance(value[0], Mapping):
        return chat(name, value)
    return [turn for i, pair in enumerate(value) for turn in _exchange(f"{name}[{i}]", pair)]


def _exchange(where: str, pair: object) -> tuple[Turn, Turn]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise BadRow(f"{where} is {json_type(pair)}, not a pair of question and answer")
    return turn("user", text(f"{where}[0]", pair[0])), turn("assistant", text(f"{where}[1]", pair[1]))


def _turn(where: str, turn: object) -> Turn:
    if not isinstance(turn, Mapping):
        raise BadRow(f"{where} is {json_type(turn)}, not a turn")
    if turn.get("tool_calls"):
        raise BadRow(f"{where} calls tools, which is not supported")
    return {**_words(where, turn), "reasoning": _reasoning(where, turn), "is_learned": _mark(where, turn)}


def _words(where: str, turn: Mapping[str, object]) -> Turn:
    if turn.get("from") is not None:
        return {"role": _sharegpt_role(where, turn["from"]), "content": text(f"{where}.value", turn.get("value"))}
    role = text(f"{where}.role", turn.get("role"))
    # A role beyond the usual ones is left to the model's own chat template, which may know it.
    return {"role": ROLES.get(role, role), "content": _content(f"{where}.content", turn.get("content"))}


def _reasoning(where: str, turn: Mapping[str, object]) -> str | None:
    name = next((name for name in REASONING if turn.get(name) not in (None, "")), None)
    return None if name is None else text(f"{where}.{name}", turn[name])


def _mark(where: str, turn: Mapping[str, object]) -> bool | None:
    marks = _marks(turn)
    for name, mark in marks.items():
        if not isinstance(mark, (bool, int, float)) or mark not in (0, 1):
            raise BadRow(f"{where}.{name} is {mark!r}: a turn is learned (1) or not (0), there is nothing between")
    if len({bool(mark) for mark in marks.values()}) > 1:
        raise BadRow(f"{where} is to be learned and not to be: {', '.join(marks)} differ")
    return bool(next(iter(marks.values()))) if marks else None


def _marks(turn: Mapping[str, object]) -> dict[str, object]:
    marks = {name: turn[name] for name in MARKS if turn.get(name) is not None}
    return {**marks, "loss": turn["loss"]} if isinstance(turn.get("loss"), bool) else marks


def _sharegpt_role(where: str, speaker: object) -> str:
    role = ROLES.get(text(f"{where}.from", speaker))
    if role is None:
        raise BadRow(f"{where}.from is '{speaker}', which is none of {', '.join(ROLES)}")
    return role


def _content(where: str, content: object) -> str:
    """Reads the content of a turn: text, or a list of text parts as chat services write them."""
    if not isinstance(content, list):
        return text(where, content)
    parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise BadRow(f"{where} has parts that are not text")
    return text(where, "".join(part for part in parts if isinstance(part, str)))
