"""The rows of an epoch: whole global batches, the same ones whatever the micro-batch and the number of ranks.

accelerate would even the last batches out by repeating rows, as many as the micro-batch and the ranks make it need.
Rows that teach nothing take their place, or, where a task has none, as many of the first rows as the global batch
needs, so that every step is the step of one process with the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler

from autofit.domain.errors import UsageError

# What trl's collator reads of a row. Two tokens, so that something is left when the labels are shifted.
_BLANK = {"input_ids": [0, 0], "labels": [-100, -100], "seq_lengths": [2]}


def check_whole_batch(row_count: int, global_batch: int) -> None:
    """Checks that rows of which only whole batches are trained make one; UsageError where they do not."""
    if row_count < global_batch:
        raise UsageError(
            f"--dataloader_drop_last leaves nothing to train: {row_count} rows are less than a global batch of "
            f"{global_batch}"
        )


def filled_with_first(rows: Dataset, multiple: int) -> Dataset:
    """The rows, and behind them as many of the first ones again as a multiple of `multiple` needs."""
    missing = -len(rows) % multiple
    return rows.select([*range(len(rows)), *(place % len(rows) for place in range(missing))]) if missing else rows


def filled_with_blanks(rows: Dataset, multiple: int) -> Dataset:
    """The rows, and behind them as many without a label as a multiple of `multiple` needs; the trainer's columns
    only."""
    columns = [name for name in _BLANK if name in rows.column_names]
    missing = -len(rows) % multiple
    if not missing:
        return rows
    kept = rows.select_columns(columns)
    blank = {name: [_BLANK[name]] * missing for name in columns}
    return concatenate_datasets([kept, Dataset.from_dict(blank, features=kept.features)])


class EpochOrder(Sampler[int]):
    """Gives all rows in the order in which accelerate's seeded sampler gives them to one process, then those that fill
    the last batch up.

    `epoch` is asked when an epoch begins, rather than set: past what a resumed run skips, accelerate tells it to its
    own sampler alone.
    """

    def __init__(self, row_count: int, length: int, seed: int, epoch: Callable[[], int]) -> None:
        self._row_count = row_count
        self._length = length
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch())
        shuffled = torch.randperm(self._row_count, generator=generator).tolist()
        yield from [*shuffled, *range(self._row_count, self._length)][: self._length]


class TokenMean:
    """The mean loss of tokens over batches and ranks, from the means of the batches."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, loss: torch.Tensor, labels: torch.Tensor) -> None:
        """Adds a batch; `loss` is its mean over its tokens that are scored: the first of a row is not."""
        count = (labels[..., 1:] != -100).sum()
        total = torch.where(count > 0, loss.detach().double() * count, 0.0)  # of a batch of blank rows it may be 0 / 0
        self._sums += torch.stack([total, count.double()])

    def over_ranks(self) -> float | None:
        """The mean over all ranks, None where no rank has scored a token."""
        torch.distributed.all_reduce(self._sums)
        loss, count = self._sums.tolist()
        return loss / count if count else None
