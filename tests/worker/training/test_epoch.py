"""The rows of an epoch, against accelerate's own sampler and torch's own batches."""

from __future__ import annotations

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
from datasets import Dataset
from torch.utils.data import BatchSampler

from autofit.worker.training.epoch import EpochOrder, TokenMean, filled_with_blanks

ROWS = [{"input_ids": [n, n, n], "labels": [n, n, n]} for n in range(5)]


def test_the_last_batch_is_filled_with_rows_without_a_label() -> None:
    rows = filled_with_blanks(Dataset.from_list([{**row, "text": "x"} for row in ROWS]), 4)
    assert rows.column_names == ["input_ids", "labels"]
    assert [rows[n] for n in range(5)] == ROWS
    assert [set(row["labels"]) for row in rows.select(range(5, 8))] == [{-100}] * 3


def test_a_packed_row_says_how_long_its_parts_are() -> None:
    rows = filled_with_blanks(Dataset.from_list([{**row, "seq_lengths": [2, 1]} for row in ROWS]), 6)
    assert sum(rows[5]["seq_lengths"]) == len(rows[5]["input_ids"])


def test_whole_batches_stay_as_they_are() -> None:
    rows = Dataset.from_list(ROWS)
    assert filled_with_blanks(rows, 5) is rows


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_order_is_that_of_one_process(epoch: int) -> None:
    plain = SeedableRandomSampler(range(37), data_seed=42)
    plain.set_epoch(epoch)
    order = list(EpochOrder(37, 48, 42, lambda: epoch))
    assert order[:37] == list(plain)
    assert order[37:] == list(range(37, 48))


def test_what_is_dropped_is_the_last_batch_alone() -> None:
    assert list(EpochOrder(37, 32, 42, lambda: 0)) == list(EpochOrder(37, 48, 42, lambda: 0))[:32]


@pytest.mark.parametrize(("micro_batch", "ranks"), [(1, 2), (8, 2), (4, 4), (16, 1)])
def test_each_step_has_the_same_rows_however_they_are_divided(micro_batch: int, ranks: int) -> None:
    """As accelerate gives them out: a batch to each rank in turn."""
    order = EpochOrder(37, 48, 42, lambda: 1)
    batches = BatchSampler(order, micro_batch, drop_last=False)
    shares = [list(BatchSamplerShard(batches, ranks, rank)) for rank in range(ranks)]
    count = 16 // (micro_batch * ranks)
    steps = [
        sorted(row for share in shares for batch in share[step * count :][:count] for row in batch) for step in range(3)
    ]
    whole = torch.tensor(list(order)).view(3, 16)
    assert steps == [sorted(rows) for rows in whole.tolist()]


def test_a_batch_of_blank_rows_alone_adds_nothing_whatever_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label smoother divides by its number of labels."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda sums: None)
    mean = TokenMean(torch.device("cpu"))
    mean.add(torch.tensor(2.0), torch.tensor([[5, 5, 5]]))
    mean.add(torch.tensor(float("nan")), torch.tensor([[-100, -100, -100]]))
    assert mean.over_ranks() == 2.0
    mean.add(torch.tensor(float("nan")), torch.tensor([[5, 5, 5]]))
    assert str(mean.over_ranks()) == "nan"
