"""The order of prompts whose answers are generated, as accelerate gives it out to ranks."""

from __future__ import annotations

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from autofit.worker.tasks.grouped_order import GroupedOrder
from autofit.worker.training.epoch import EpochOrder

PROMPTS, PER_STEP, ANSWERS = 11, 3, 4
BATCH = PER_STEP * ANSWERS


def generations(micro_batch: int, ranks: int, epoch: int = 0) -> list[list[int]]:
    """The prompts of each answer, generation by generation: a rank generates once for all micro-batches of a step."""
    accumulation = BATCH // (micro_batch * ranks)
    order = GroupedOrder(EpochOrder(PROMPTS, PROMPTS, 42, lambda: epoch), ANSWERS, PER_STEP, accumulation)
    batches = BatchSampler(order, micro_batch * accumulation, drop_last=False)
    shares = [list(BatchSamplerShard(batches, ranks, rank)) for rank in range(ranks)]
    taken = range(0, len(shares[0]), accumulation)  # the others repeat it, for trl reads a batch with each micro-step
    return [[prompt for share in shares for prompt in share[step]] for step in taken]


@pytest.mark.parametrize(("micro_batch", "ranks"), [(1, 1), (12, 1), (2, 2), (6, 2), (1, 4), (3, 4)])
def test_prompts_come_in_the_same_order_however_the_batch_is_divided(micro_batch: int, ranks: int) -> None:
    found = generations(micro_batch, ranks)
    assert found == generations(2, 1)
    assert len(found) == PROMPTS // PER_STEP  # what makes no whole step is left out
    for generation in found:
        assert all(generation.count(prompt) == ANSWERS for prompt in generation)


def test_a_later_epoch_has_an_order_of_its_own_whenever_it_begins() -> None:
    assert generations(2, 2, epoch=1) == generations(2, 2, epoch=1) != generations(2, 2)
