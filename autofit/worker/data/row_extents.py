"""How long the rows are that a trainer of trl has prepared, each by the longest of its sequences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset

from autofit.domain.request import Request
from autofit.planning.data.truncation import RowExtent

_BATCH_ROWS = 1000  # of prompts that are tokenized together
_ANSWERS = ("chosen_ids", "rejected_ids", "completion_ids")
"""The columns in which trl's trainers have answers once rows are prepared."""


@dataclass(frozen=True)
class SeenRows:
    """The rows of one data set: how long each is and where what is learned begins and ends, and their greatest
    token."""

    extents: list[RowExtent]
    highest_token: int


def seen_rows(request: Request, trainer: Any, rows: Dataset) -> SeenRows:
    """Looks at `rows`, a data set of `trainer`.

    A row with two sequences is as long as the longer one, for both are padded alike; a prompt whose answers are
    generated as long as with the longest answer. KTO's mismatched pairs, whose log-probabilities are computed without
    gradients, are not looked at.
    """
    return _seen_prompts(request, trainer, rows) if request.task.traits.generates else _seen_answers(rows)


def _seen_prompts(request: Request, trainer: Any, rows: Dataset) -> SeenRows:
    extents, highest, answer = [], -1, request.completion_tokens
    for ids in _prompt_ids(trainer, rows):
        extents.append(RowExtent(len(ids) + answer, max(len(ids), 1), len(ids) + answer - 1))
        highest = max(highest, *ids, -1)
    return SeenRows(extents, highest)


def _seen_answers(rows: Dataset) -> SeenRows:
    # What RewardTrainer has prepared holds the prompt in both answers, and all of it is scored.
    prompt = [name for name in ("prompt_ids",) if name in rows.column_names]
    answers = [name for name in _ANSWERS if name in rows.column_names]
    table = rows.select_columns([*prompt, *answers]).with_format("arrow")[:]
    prompts = _lengths(table["prompt_ids"]) if prompt else [0] * len(rows)
    longest = [max(lengths) for lengths in zip(*(_lengths(table[name]) for name in answers), strict=True)]
    pairs = zip(prompts, longest, strict=True)
    # The first token of a row is foretold by nothing.
    extents = [RowExtent(prompt + answer, max(prompt, 1), prompt + answer - 1) for prompt, answer in pairs]
    highest = [pc.max(pc.list_flatten(table[name])).as_py() for name in table.column_names]
    return SeenRows(extents, max((token for token in highest if token is not None), default=-1))


def fitting_prompts(trainer: Any, rows: Dataset, longest_tokens: int) -> Dataset:
    """The rows whose prompts are no longer than that: those that the survey counts as trained on. `trainer` is a
    GRPOTrainer."""
    return rows.select([i for i, ids in enumerate(_prompt_ids(trainer, rows)) if len(ids) <= longest_tokens])


def _prompt_ids(trainer: Any, rows: Dataset) -> Iterator[list[int]]:
    for batch in rows.select_columns(["prompt"]).iter(_BATCH_ROWS):
        yield from trainer._tokenize_prompts(batch["prompt"])[0]


def _lengths(column: Any) -> list[int]:
    lengths: list[int] = pc.list_value_length(column).to_pylist()
    return lengths
