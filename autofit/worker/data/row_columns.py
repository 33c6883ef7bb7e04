"""Whole columns of rows as Arrow has them: read row by row they take a hundred times as long."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc
from datasets import Dataset


def column(rows: Dataset, name: str) -> Any:
    """The values of a column, a `pyarrow.ChunkedArray`."""
    return rows.select_columns([name]).with_format("arrow")[:][name]


def lengths(rows: Dataset, name: str = "input_ids") -> list[int]:
    """How many tokens each row has in a column."""
    found: list[int] = pc.list_value_length(column(rows, name)).to_pylist()
    return found
