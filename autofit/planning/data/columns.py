"""Which kind of data for supervised fine-tuning a table holds, by its columns; the names of all kinds.

When several kinds fit, the first of these wins: `input_ids`, turns (`messages`, `conversations`, `conversation`),
`prompt` with `completion`, `instruction`, the other pairs in the order of `PAIRS`, `text`. What trl knows by name goes
before what is rewritten here; `text` comes last, for beside other columns it is mostly a rendered copy of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from .chat_turns import BadRow, is_from_value, listed
from .token_row import COLUMNS as TOKEN_COLUMNS


class Format(str, Enum):
    TEXT = "text"
    PROMPT_COMPLETION = "prompt/completion"
    MESSAGES = "messages"
    ALPACA = "alpaca"
    SHAREGPT = "ShareGPT"
    PRETOKENIZED = "tokens"
    PAIR_CHATS = "prompt/completion with a system turn or a history"
    ALPACA_CHATS = "alpaca with a system turn or a history"
    PREFERENCES = "prompt/chosen/rejected"
    PREFERENCE_CHATS = "prompt/chosen/rejected turns"
    WHOLE_PREFERENCES = "chosen/rejected"  # either holds the prompt, too
    WHOLE_PREFERENCE_CHATS = "chosen/rejected turns"
    JUDGED = "prompt/completion/label"
    JUDGED_CHATS = "prompt/completion/label turns"
    PROMPTS = "prompt"
    PROMPT_CHATS = "prompt turns"

    @property
    def is_conversational(self) -> bool:
        """Whether the tokenizer needs a chat template for it."""
        return self in _CHATS


_CHATS = frozenset(
    {
        Format.MESSAGES, Format.SHAREGPT, Format.PAIR_CHATS, Format.ALPACA_CHATS, Format.PREFERENCE_CHATS,
        Format.WHOLE_PREFERENCE_CHATS, Format.JUDGED_CHATS, Format.PROMPT_CHATS,
    }
)  # fmt: skip
_AS_CHATS = {
    Format.PROMPT_COMPLETION: Format.PAIR_CHATS,
    Format.ALPACA: Format.ALPACA_CHATS,
    Format.PREFERENCES: Format.PREFERENCE_CHATS,
    Format.JUDGED: Format.JUDGED_CHATS,
    Format.PROMPTS: Format.PROMPT_CHATS,
}


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


def supervised_format(columns: Sequence[str], first_row: Mapping[str, object]) -> Format | None:
    """The format of a table with these columns; None where they do not do for supervised fine-tuning."""
    if "input_ids" in columns:
        return Format.PRETOKENIZED
    if turns := _turns_column(columns, first_row):
        first = listed(turns, first_row.get(turns))
        return Format.SHAREGPT if is_from_value(turns, first) else Format.MESSAGES
    if _has(columns, PAIRS[0]):
        return Format.PROMPT_COMPLETION
    if "instruction" in columns and first_of(INSTRUCTION_OUTPUTS, columns):
        return Format.ALPACA
    if pair_of(columns) is not None:
        return Format.PROMPT_COMPLETION
    return Format.TEXT if "text" in columns else None


def context_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that say what came before a row's question: a system turn, earlier turns."""
    return tuple(name for name in (first_of(SYSTEMS, columns), first_of(HISTORIES, columns)) if name)


def with_context(data_format: Format) -> Format:
    """What the format becomes where `context_columns` hold something: only turns can say it."""
    return _AS_CHATS.get(data_format, data_format)


def used_columns(data_format: Format, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of the table that `example.to_example` reads."""
    instruction = ("instruction", first_of(INSTRUCTION_INPUTS, columns), first_of(INSTRUCTION_OUTPUTS, columns))
    wanted = {
        Format.TEXT: ("text",),
        Format.PRETOKENIZED: TOKEN_COLUMNS,
        Format.ALPACA: instruction,
        Format.ALPACA_CHATS: instruction,
        Format.MESSAGES: (first_of(TURNS, columns),),
        Format.SHAREGPT: (first_of(TURNS, columns),),
        Format.PROMPT_COMPLETION: _pair_columns(columns),
        Format.PAIR_CHATS: _pair_columns(columns),
    }[data_format]
    context = context_columns(columns) if data_format.is_conversational else ()
    return tuple(column for column in (*wanted, *context) if column in columns)


def _turns_column(columns: Sequence[str], first_row: Mapping[str, object]) -> str:
    column = first_of(TURNS, columns)
    try:
        turns = listed(column, first_row.get(column))
    except BadRow:
        return ""
    return "" if isinstance(turns, str) else column  # a column of plain text holds no turns


def first_of(names: Sequence[str], columns: Sequence[str]) -> str:
    """The first of `names` that is a column; empty where none is."""
    return next((name for name in names if name in columns), "")


def pair_of(columns: Sequence[str]) -> Pair | None:
    """The first of `PAIRS` whose columns are there."""
    return next((pair for pair in PAIRS if _has(columns, pair)), None)


def _has(columns: Sequence[str], pair: Pair) -> bool:
    return pair.prompt in columns and pair.completion in columns


def _pair_columns(columns: Sequence[str]) -> tuple[str, ...]:
    pair = pair_of(columns)
    return (pair.prompt, pair.completion) if pair is not None else ()
