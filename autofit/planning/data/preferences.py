"""Rows of two answers, `chosen` the better one: trl's preference data, with the prompt in a column of its own or at
the beginning of both answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .asked import ASKING, asked_text, asked_turns, asking_columns
from .chat_turns import BadRow, chat, json_type, text
from .columns import TURNS, Format, first_of
from .messages import answer_turns, are_turns, left_unsaid, messages

ANSWERS = ("chosen", "rejected")
MARGIN = "margin"
WHAT_WORKS = "chosen and rejected, as text or turns; with or without prompt (or question, instruction, conversations)"
_WHOLE = (Format.WHOLE_PREFERENCES, Format.WHOLE_PREFERENCE_CHATS)
FORMATS = (Format.PREFERENCES, Format.PREFERENCE_CHATS, *_WHOLE)


def preference_format(columns: Sequence[str], first_row: Mapping[str, object]) -> Format | None:
    """The format of a table with these columns; None where it holds no preferences."""
    if not set(ANSWERS) <= set(columns):
        return None
    prompt = _prompt_column(columns)
    if any(are_turns(first_row.get(name)) for name in ANSWERS):
        return Format.PREFERENCE_CHATS if prompt and not _hold_prompt(first_row) else Format.WHOLE_PREFERENCE_CHATS
    if not prompt:
        return Format.WHOLE_PREFERENCES
    return Format.PREFERENCE_CHATS if are_turns(first_row.get(prompt)) else Format.PREFERENCES


def preference_columns(data_format: Format, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of the table that `preference` reads."""
    if data_format in _WHOLE:
        return ANSWERS
    has_context = data_format is Format.PREFERENCE_CHATS
    return (*asking_columns(_prompt_column(columns), columns, has_context=has_context), *ANSWERS)


def preference(data_format: Format, row: Mapping[str, object]) -> dict[str, object]:
    """Brings a row into trl's form: `chosen` and `rejected` as texts or as messages, with a `prompt` of the same kind
    unless both begin with theirs; BadRow names the wrong field. Beside messages stands as `unheard` what they leave
    out."""
    if data_format is Format.PREFERENCES:
        return {"prompt": asked_text(_prompt_column(list(row)), row), **_texts(row)}
    if data_format is Format.WHOLE_PREFERENCES:
        return _not_empty(_texts(row))
    if data_format is Format.WHOLE_PREFERENCE_CHATS:
        whole = {name: messages(name, chat(name, row.get(name))) for name in ANSWERS}
        return {**whole, "unheard": left_unsaid(row, ANSWERS)}
    prompt = _prompt_column(list(row))
    asked = messages(prompt, asked_turns(prompt, row))
    answers = {name: messages(name, answer_turns(name, row.get(name))) for name in ANSWERS}
    return {"prompt": asked, **answers, "unheard": left_unsaid(row, (prompt, *ANSWERS))}


def check_common_prompt(example: Mapping[str, object]) -> None:
    """Checks that two answers which hold their prompt begin alike; BadRow where they do not: trl takes what both begin
    with for the prompt."""
    chosen, rejected = (example[name] for name in ANSWERS)
    assert isinstance(chosen, (str, list))
    assert isinstance(rejected, (str, list))
    if chosen[0] != rejected[0]:
        what = "turn" if isinstance(chosen, list) else "character"
        raise BadRow(f"chosen and rejected differ from the first {what} on, and there is no prompt beside them")
    if isinstance(chosen, list) and min(len(chosen), len(rejected)) < 2:
        raise BadRow("chosen or rejected is one turn alone, and there is no prompt beside it")


def margin(value: object) -> float:
    """How much better the chosen answer is at least, as the reward trainer takes it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRow(f"{MARGIN} is {json_type(value)}, not a number")
    return float(value)


def _prompt_column(columns: Sequence[str]) -> str:
    return first_of((*ASKING, *TURNS), columns)


def _hold_prompt(row: Mapping[str, object]) -> bool:
    """Whether the chosen answer of the first row is a whole conversation, which begins with what was asked."""
    try:
        turns = answer_turns("chosen", row.get("chosen"))
    except BadRow:
        return False
    return bool(turns) and turns[0]["role"] != "assistant"


def _texts(row: Mapping[str, object]) -> dict[str, str]:
    return {name: text(name, row.get(name)) for name in ANSWERS}


def _not_empty(answers: dict[str, str]) -> dict[str, object]:
    for name, words in answers.items():
        if not words:
            raise BadRow(f"{name} is empty")
    return {**answers}
