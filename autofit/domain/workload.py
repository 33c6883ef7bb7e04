"""What was found in the data: how many examples, how long they are in tokens, and what is learned of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Learned(str, Enum):
    """What of the rows the loss counts, and for chats how it was found."""

    TEXTS = "texts"
    ANSWERS = "answers"
    LABELS = "labels"  # tokenised rows say it themselves
    EVERYTHING = "everything"  # asked for
    MARKED_TURNS = "marked_turns"  # the chat template marks the assistant's words
    TWIN_TURNS = "twin_turns"  # trl's copy of the chat template does
    COMPARED_TURNS = "compared_turns"  # renderings of the chat as it grows are compared
    UNTOLD_TURNS = "untold_turns"  # none of these tells the turns apart: all of them are learned
    PREFERENCES = "preferences"  # which of two answers is the better one
    JUDGEMENTS = "judgements"  # whether an answer is a good one
    REWARDS = "rewards"  # what the rewards say of the model's own answers


@dataclass(frozen=True)
class RowCounts:
    """What becomes of the rows of one source. `total` = `empty` + `dropped` + `too_long` + those that are trained
    on."""

    total: int
    empty: int = 0  # nothing in them to learn from, however long a sequence may be
    dropped: int = 0  # all that is learned of them lies beyond the sequence length
    too_long: int = 0  # longer than the sequence length, of a task that cuts no row
    cut: int = 0  # trained on, and cut at the sequence length
    cut_answers: int = 0  # of these, the ones that lose a part of what is learned
    untold: int = 0  # chats whose turns cannot be told apart
    enough_tokens: int | None = None  # the sequence length that loses no more rows than allowed; None: none does

    @property
    def lost(self) -> int:
        return self.empty + self.dropped + self.too_long


@dataclass(frozen=True)
class RowLengths:
    """The lengths of the rows that are trained on, in tokens."""

    longest_tokens: int
    mean_tokens: float


DATA_KINDS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}
"""The endings of files that can be trained on, with the name of what reads them in `datasets`."""

COMPRESSIONS = (".gz", ".zst")
"""What may stand behind them."""


def data_kind(name: str) -> str | None:
    """What reads a file of this name, in whatever case its ending is written; None for what is no data file."""
    plain = name.lower()
    ending = next((one for one in COMPRESSIONS if plain.endswith(one)), "")
    kind = next((kind for suffix, kind in DATA_KINDS.items() if plain.removesuffix(ending).endswith(suffix)), None)
    return None if ending and kind == "parquet" else kind  # which is compressed in itself


@dataclass(frozen=True)
class DataProfile:
    """Lengths are in tokens as the trainer will see them: after the chat template, truncation and packing.

    A row is as long as the longer of its sequences, where it has two; a prompt, whose answer is generated, as long as
    with the longest answer.
    """

    source: str
    data_format: str  # text, prompt/completion, messages, ...
    example_count: int
    eval_example_count: int
    longest_tokens: int
    sampled_lengths_tokens: tuple[int, ...]  # sorted; a sample of the data, never empty
    notes: tuple[str, ...] = ()
    learned: Learned | None = None  # None where nobody looked at rows
    rows: RowCounts | None = None
    eval_rows: RowCounts | None = None  # of evaluation data with a source of its own
    is_foreseen: bool = False  # by a sample, while all rows are counted: the longest is the longest that may be

    @property
    def lengths(self) -> RowLengths:
        sampled = self.sampled_lengths_tokens
        return RowLengths(self.longest_tokens, sum(sampled) / len(sampled))


@dataclass(frozen=True)
class BatchShape:
    """One micro-batch of a probe: `padded_tokens` wide, of which `mean_tokens` a sequence are real."""

    padded_tokens: int
    mean_tokens: float
