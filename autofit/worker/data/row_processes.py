"""Rows made by several processes: how many, and how far they are with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import datasets.arrow_dataset as rows_of

LEAST_ROWS = 4000  # for a process of its own: fewer are made before it has started

OnRows = Callable[[int, int], None]
"""Hears how many rows are done, of how many."""


def process_count(row_count: int, most: int) -> int | None:
    """How many processes make so many rows, at most `most`; None: this one does, as for few of them."""
    count = min(most, row_count // LEAST_ROWS)
    return count if count > 1 else None


@contextmanager
def heard(on_rows: OnRows) -> Iterator[None]:
    """Has `on_rows` hear of all rows that `datasets` makes in the block, trl's among them: where its progress bars
    would be moved, whatever is shown of them."""
    bar = rows_of.hf_tqdm

    class HeardBar(bar):  # type: ignore[misc, valid-type]
        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            on_rows(int(self.n), int(self.total))
            return None

    rows_of.hf_tqdm = HeardBar
    try:
        yield
    finally:
        rows_of.hf_tqdm = bar
