"""Rows of one answer each, judged good or bad: trl's unpaired preference data, as KTO takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .asked import asked_turns, asking_columns
from .chat_turns import BadRow, json_type
from .columns import INSTRUCTION_OUTPUTS, PAIRS, Format, first_of, pair_of, supervised_format
from .example import to_example
from .messages import answer_turns, are_turns, left_unsaid, messages

LABEL = "label"
WHAT_WORKS = (
    "prompt, completion and label (true for a good answer); response for completion; question, answer and label; "
    "instruction, output and label; or chosen and rejected, with or without prompt"
)
_LABELS = {"true": True, "false": False, "1": True, "0": False}


def judged_format(columns: Sequence[str], first_row: Mapping[str, object]) -> Format | None:
    """The format of a table with these columns; None where it holds no judged answers."""
    asked = _question_and_answer(columns)
    if LABEL not in columns or asked is None:
        return None
    is_chat = any(are_turns(first_row.get(name)) for name in asked)
    return Format.JUDGED_CHATS if is_chat else Format.JUDGED


def judged_columns(data_format: Format, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of the table that `judged` reads."""
    asked = _question_and_answer(columns)
    assert asked is not None  # the format says so
    question, answer = asked
    asking = asking_columns(question, columns, has_context=data_format is Format.JUDGED_CHATS)
    return (*asking, answer, LABEL)


def judged(data_format: Format, row: Mapping[str, object]) -> dict[str, object]:
    """Brings a row into trl's form: `prompt` and `completion` as texts or as messages, and `label`; BadRow names the
    wrong field. Beside messages stands as `unheard` what they leave out."""
    is_good = label(row.get(LABEL))
    asked = _question_and_answer(list(row))
    assert asked is not None  # the format says so
    question, answer = asked
    if data_format is Format.JUDGED:
        supervised = supervised_format(asked, {})
        assert supervised is not None
        return {**to_example(supervised, {name: value for name, value in row.items() if name != LABEL}), LABEL: is_good}
    return {
        "prompt": messages(question, asked_turns(question, row)),
        "completion": messages(answer, answer_turns(answer, row.get(answer))),
        LABEL: is_good,
        "unheard": left_unsaid(row, asked),
    }


def label(value: object) -> bool:
    """Whether an answer is good: true or false, 1 or 0, as text, too, for a CSV file knows nothing else."""
    known = _LABELS.get(value.strip().lower()) if isinstance(value, str) else value
    if isinstance(known, (bool, int, float)) and known in (0, 1):
        return bool(known)
    said = repr(value) if isinstance(value, (str, int, float)) else json_type(value)
    raise BadRow(f"{LABEL} is {said}: an answer is good (true) or bad (false)")


def _question_and_answer(columns: Sequence[str]) -> tuple[str, str] | None:
    """The columns of the question and the answer, in the order of supervised fine-tuning."""
    pair, output = pair_of(columns), first_of(INSTRUCTION_OUTPUTS, columns)
    if "instruction" in columns and output and pair is not PAIRS[0]:
        return "instruction", output
    return (pair.prompt, pair.completion) if pair is not None else None
