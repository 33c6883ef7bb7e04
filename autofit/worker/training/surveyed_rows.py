"""The rows of a training as its trainer will have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from autofit.domain.workload import RowCounts

SAMPLE_ROWS = 1024  # whose lengths are told

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class SurveyedRows:
    """How many rows are trained and evaluated on, and how long they are, in tokens; `sampled_lengths` is sorted."""

    example_count: int
    eval_example_count: int
    sampled_lengths: Sequence[int]
    longest_tokens: int
    rows: RowCounts | None
    eval_rows: RowCounts | None
    notes: tuple[str, ...] = ()


def sample(in_order: Sequence[_Item]) -> Sequence[_Item]:
    """At most SAMPLE_ROWS of what is in order of its length, evenly from the shortest to the longest."""
    last = len(in_order) - 1
    if last < SAMPLE_ROWS:
        return in_order
    return [in_order[i * last // (SAMPLE_ROWS - 1)] for i in range(SAMPLE_ROWS)]
