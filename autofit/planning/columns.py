"""Which kind of training data a table holds, by its columns, and its rows in one of few forms.

When several kinds fit, the first of these wins: `input_ids`, turns (`messages`, `conversations`, `conversation`),
`prompt` with `completion`, `instruction`, the other pairs in the order of `PAIRS`, `text`. What trl knows by name goes
before what is rewritten here; `text` comes last, for beside other columns it is mostly a rendered copy of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from autofit.domain.errors import UsageError

from .token_row import COLUMNS as TOKEN_COLUMNS
from .token_row import IGNORED, token_row
from .turns import BadRow, Turn, chat, history, is_from_value, listed, text, turn, unheard, with_system


class Format(str, Enum):
    TEXT = "text"
    PROMPT_COMPLETION = "prompt/completion"
    MESSAGES = "messages"
    ALPACA = "alpaca"
    SHAREGPT = "ShareGPT"
    PRETOKENIZED = "tokens"
    PAIR_CHATS = "prompt/completion with a system turn or a history"
    ALPACA_CHATS = "alpaca with a system turn or a history"

    @property
    def is_conversational(self) -> bool:
        """Whether the tokenizer needs a chat template for it."""
        return self in (Format.MESSAGES, Format.SHAREGPT, Format.PAIR_CHATS, Format.ALPACA_CHATS)


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
SYSTEMS = ("system", "system_prompt")
HISTORIES = ("history",)
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
        first = listed(turns, first_row.get(turns))
        return Format.SHAREGPT if is_from_value(turns, first) else Format.MESSAGES
    if _has(columns, PAIRS[0]):
        return Format.PROMPT_COMPLETION
    if "instruction" in columns and _first(INSTRUCTION_OUTPUTS, columns):
        return Format.ALPACA
    if any(_has(columns, pair) for pair in PAIRS):
        return Format.PROMPT_COMPLETION
    if "text" in columns:
        return Format.TEXT
    raise UsageError(f"cannot train on the columns {', '.join(columns)}.\nColumns that work: {WHAT_WORKS}.")


def context_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that say what came before a row's question: a system turn, earlier turns."""
    return tuple(name for name in (_first(SYSTEMS, columns), _first(HISTORIES, columns)) if name)


def with_context(data_format: Format) -> Format:
    """What `data_format` becomes where `context_columns` hold something: only turns can say it."""
    chats = {Format.PROMPT_COMPLETION: Format.PAIR_CHATS, Format.ALPACA: Format.ALPACA_CHATS}
    return chats.get(data_format, data_format)


def used_columns(data_format: Format, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of the table that `to_example` reads."""
    instruction = ("instruction", _first(INSTRUCTION_INPUTS, columns), _first(INSTRUCTION_OUTPUTS, columns))
    wanted = {
        Format.TEXT: ("text",),
        Format.PRETOKENIZED: TOKEN_COLUMNS,
        Format.ALPACA: instruction,
        Format.ALPACA_CHATS: instruction,
        Format.MESSAGES: (_first(TURNS, columns),),
        Format.SHAREGPT: (_first(TURNS, columns),),
        Format.PROMPT_COMPLETION: _pair_columns(columns),
        Format.PAIR_CHATS: _pair_columns(columns),
    }[data_format]
    context = context_columns(columns) if data_format.is_conversational else ()
    return tuple(column for column in (*wanted, *context) if column in columns)


def to_example(data_format: Format, row: Mapping[str, object]) -> dict[str, object]:
    """`row` as `text`, `prompt` and `completion`, `messages` or `input_ids` and `labels`; BadRow names the wrong field.

    Beside `messages` stands as `unheard` what turns say that nobody heeds.
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
        pair = next(pair for pair in PAIRS if _has(list(row), pair))
        return _asked_and_answered(row, pair.prompt, pair.completion, ""), []
    if data_format is Format.ALPACA_CHATS:
        extra, output = _first(INSTRUCTION_INPUTS, list(row)), _first(INSTRUCTION_OUTPUTS, list(row))
        return _asked_and_answered(row, "instruction", output, extra), []
    column = _first(TURNS, list(row))
    return chat(column, row.get(column)), unheard(column, row.get(column))


def _asked_and_answered(row: Mapping[str, object], question: str, answer: str, extra: str) -> list[Turn]:
    parts = [text(question, row[question])]
    if row.get(extra) not in (None, ""):
        parts.append(text(extra, row[extra]))
    return [turn("user", "\n\n".join(parts)), turn("assistant", text(answer, row[answer]))]


def _after_context(row: Mapping[str, object], turns: list[Turn]) -> list[Turn]:
    """`turns` after the row's system column and history; a system turn of their own stays the first."""
    system, past = _first(SYSTEMS, list(row)), _first(HISTORIES, list(row))
    own = turns[:1] if turns and turns[0]["role"] == "system" else []
    earlier = history(past, row.get(past)) if past else []
    return with_system(system, row.get(system) if system else None, [*own, *earlier, *turns[len(own) :]])


def _turns_column(columns: Sequence[str], first_row: Mapping[str, object]) -> str:
    column = _first(TURNS, columns)
    try:
        turns = listed(column, first_row.get(column))
    except BadRow:
        return ""
    return "" if isinstance(turns, str) else column  # a column of plain text holds no turns


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
