"""Which kind of training data a table holds, by its columns, and its rows in the form that trl trains on.

When several kinds fit, the first of these wins: `input_ids`, turns (`messages`, `conversations`, `conversation`),
`prompt` with `completion`, `instruction`, the other pairs in the order of `PAIRS`, `text`. What trl knows by name goes
before what is rewritten here; `text` comes last, for beside other columns it is mostly a rendered copy of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from autofit.domain.errors import UsageError

from .turns import BadRow, chat, is_from_value, kind, text


class Format(str, Enum):
    TEXT = "text"
    PROMPT_COMPLETION = "prompt/completion"
    MESSAGES = "messages"
    ALPACA = "alpaca"
    SHAREGPT = "ShareGPT"
    PRETOKENIZED = "tokens"

    @property
    def is_conversational(self) -> bool:
        """Whether the tokenizer needs a chat template for it."""
        return self in (Format.MESSAGES, Format.SHAREGPT)


@dataclass(frozen=True)
class Pair:
    """A question's and an answer's column, and what stands between them in the training text.

    A cue ends in a line break: after a space the first word of the answer would melt into another token.
    """

    prompt: str
    completion: str
    cue: str


PAIRS = (
    Pair("prompt", "completion", ""),  # trl's own names: taken word for word
    Pair("prompt", "response", "\n\n"),
    Pair("question", "answer", "\n\nAnswer:\n"),
    Pair("dialogue", "summary", "\n\nSummary:\n"),
    Pair("document", "summary", "\n\nSummary:\n"),
)
TURNS = ("messages", "conversations", "conversation")
INSTRUCTION_INPUTS = ("input", "context")
INSTRUCTION_OUTPUTS = ("output", "response")
WHAT_WORKS = (
    "text; prompt and completion (or response); question and answer; dialogue or document and summary; "
    "instruction, input and output; messages; conversations; input_ids"
)


def recognize(columns: Sequence[str], first_row: Mapping[str, object]) -> Format:
    """The format of a table with these columns; UsageError names the columns and those that would work."""
    if "input_ids" in columns:
        return Format.PRETOKENIZED
    if turns := _turns_column(columns, first_row):
        return Format.SHAREGPT if is_from_value(turns, first_row.get(turns)) else Format.MESSAGES
    if _has(columns, PAIRS[0]):
        return Format.PROMPT_COMPLETION
    if "instruction" in columns and _first(INSTRUCTION_OUTPUTS, columns):
        return Format.ALPACA
    if any(_has(columns, pair) for pair in PAIRS):
        return Format.PROMPT_COMPLETION
    if "text" in columns:
        return Format.TEXT
    raise UsageError(f"cannot train on the columns {', '.join(columns)}.\nColumns that work: {WHAT_WORKS}.")


def used_columns(data_format: Format, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of the table that `to_trl` reads."""
    wanted = {
        Format.TEXT: ("text",),
        Format.PRETOKENIZED: ("input_ids", "labels"),
        Format.ALPACA: ("instruction", _first(INSTRUCTION_INPUTS, columns), _first(INSTRUCTION_OUTPUTS, columns)),
        Format.MESSAGES: (_first(TURNS, columns),),
        Format.SHAREGPT: (_first(TURNS, columns),),
        Format.PROMPT_COMPLETION: _pair_columns(columns),
    }[data_format]
    return tuple(column for column in wanted if column in columns)


def to_trl(data_format: Format, row: Mapping[str, object]) -> dict[str, object]:
    """`row` as trl's `text`, `prompt` and `completion`, `messages` or `input_ids`; BadRow names the wrong field."""
    if data_format is Format.TEXT:
        return {"text": text("text", row.get("text"))}
    if data_format is Format.PROMPT_COMPLETION:
        return _from_pair(row)
    if data_format is Format.ALPACA:
        return _from_instruction(row)
    if data_format is Format.PRETOKENIZED:
        return {name: _tokens(name, row.get(name)) for name in used_columns(data_format, list(row))}
    column = _first(TURNS, list(row))
    return {"messages": chat(column, row.get(column))}


def teaches(example: Mapping[str, object]) -> bool:
    """Whether there is anything to learn from what `to_trl` gave: a text, an answer, an assistant's turn, a token."""
    if "messages" in example:
        turns = example["messages"]
        assert isinstance(turns, list)
        return any(turn["role"] == "assistant" and turn["content"].strip() for turn in turns)
    if "input_ids" in example:
        return bool(example["input_ids"])
    return bool(str(example.get("completion", example.get("text"))).strip())


def _turns_column(columns: Sequence[str], first_row: Mapping[str, object]) -> str:
    column = _first(TURNS, columns)
    return "" if isinstance(first_row.get(column), str) else column  # a column of plain text holds no turns


def _first(names: Sequence[str], columns: Sequence[str]) -> str:
    return next((name for name in names if name in columns), "")


def _has(columns: Sequence[str], pair: Pair) -> bool:
    return pair.prompt in columns and pair.completion in columns


def _pair_columns(columns: Sequence[str]) -> tuple[str, ...]:
    return next(((pair.prompt, pair.completion) for pair in PAIRS if _has(columns, pair)), ())


def _from_pair(row: Mapping[str, object]) -> dict[str, object]:
    pair = next(pair for pair in PAIRS if _has(list(row), pair))
    prompt, completion = text(pair.prompt, row[pair.prompt]), text(pair.completion, row[pair.completion])
    return {"prompt": prompt + pair.cue, "completion": completion}


def _from_instruction(row: Mapping[str, object]) -> dict[str, object]:
    """Alpaca's layout: headed sections, the input's left out where it is empty."""
    extra, output = _first(INSTRUCTION_INPUTS, list(row)), _first(INSTRUCTION_OUTPUTS, list(row))
    sections = [f"### Instruction:\n{text('instruction', row['instruction'])}"]
    if row.get(extra) not in (None, ""):
        sections.append(f"### Input:\n{text(extra, row[extra])}")
    prompt = "\n\n".join(["Carry out the task below.", *sections, "### Response:\n"])
    return {"prompt": prompt, "completion": text(output, row[output])}


def _tokens(name: str, value: object) -> list[int]:
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise BadRow(f"{name} is {kind(value)}, not a list of whole numbers")
    return value
