"""The turns of a conversation, in either spelling, and the checks of a row's fields."""

from __future__ import annotations

from collections.abc import Mapping

ROLES = {
    "human": "user", "user": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant", "assistant": "assistant",
    "system": "system",
    "tool": "tool", "observation": "tool",
}  # fmt: skip


class BadRow(ValueError):
    """A row that cannot be trained on; the message says which field and why, without the row's place."""


def kind(value: object) -> str:
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
        raise BadRow(f"{name} is {kind(value)}, not text")
    return value


def is_from_value(column: str, turns: object) -> bool:
    """ShareGPT's spelling (from, value) rather than role and content; an empty list goes by the column's name."""
    first = turns[0] if isinstance(turns, list) and turns else None
    if isinstance(first, Mapping):
        return first.get("from") is not None
    return column == "conversations"


def chat(column: str, turns: object) -> list[dict[str, str]]:
    """`turns` as a list of role and content; BadRow names the first turn that is not one."""
    if not isinstance(turns, list):
        raise BadRow(f"{column} is {kind(turns)}, not a list of turns")
    return [_turn(f"{column}[{i}]", turn) for i, turn in enumerate(turns)]


def _turn(where: str, turn: object) -> dict[str, str]:
    if not isinstance(turn, Mapping):
        raise BadRow(f"{where} is {kind(turn)}, not a turn")
    if turn.get("tool_calls"):
        raise BadRow(f"{where} calls tools, which is not supported")
    if turn.get("from") is not None:
        return {"role": _sharegpt_role(where, turn["from"]), "content": text(f"{where}.value", turn.get("value"))}
    role = text(f"{where}.role", turn.get("role"))
    # A role beyond the usual ones is left to the model's own chat template, which may know it.
    return {"role": ROLES.get(role, role), "content": _content(f"{where}.content", turn.get("content"))}


def _sharegpt_role(where: str, speaker: object) -> str:
    role = ROLES.get(text(f"{where}.from", speaker))
    if role is None:
        raise BadRow(f"{where}.from is '{speaker}', which is none of {', '.join(ROLES)}")
    return role


def _content(where: str, content: object) -> str:
    """Text, or a list of text parts as chat services write them."""
    if not isinstance(content, list):
        return text(where, content)
    parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise BadRow(f"{where} has parts that are not text")
    return "".join(part for part in parts if isinstance(part, str))
