"""Rows of a prompt each, whose answers are generated and rewarded: trl's prompt-only data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .asked import ASKING, asked_text, asked_turns
from .columns import Format, first_of
from .messages import are_turns, left_unsaid, messages

WHAT_WORKS = (
    "prompt (or question, instruction, dialogue, document), as text or turns; all other columns go to the reward "
    "functions"
)
_NOT_PASSED_ON = frozenset(
    {
        "completion", "completion_ids", "prompts", "completions", "environments", "trainer_state", "log_extra",
        "log_metric", "image", "images",
    }
)  # fmt: skip
"""Columns that trl gives to no reward function: names of what it passes itself, and pictures for other models."""


def prompt_format(columns: Sequence[str], first_row: Mapping[str, object]) -> Format | None:
    """The format of a table with these columns; None where it holds no prompts."""
    column = first_of(ASKING, columns)
    if not column:
        return None
    return Format.PROMPT_CHATS if are_turns(first_row.get(column)) else Format.PROMPTS


def prompt_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of the table that `prompt` reads or hands on."""
    return tuple(name for name in columns if name not in _NOT_PASSED_ON)


def prompt(data_format: Format, row: Mapping[str, object]) -> dict[str, object]:
    """Brings a row into trl's form: `prompt` as a text or as messages, and the other columns as they are; BadRow names
    the wrong field. Beside messages stands as `unheard` what they leave out."""
    column = first_of(ASKING, list(row))
    if data_format is Format.PROMPTS:
        return {**row, "prompt": asked_text(column, row)}
    asked = messages(column, asked_turns(column, row))
    return {**row, "prompt": asked, "unheard": left_unsaid(row, (column,))}
