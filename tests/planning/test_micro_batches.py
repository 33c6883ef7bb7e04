"""The global batch stays what the user asked for."""

from __future__ import annotations

import pytest

from autofit.domain.errors import UsageError
from autofit.planning.micro_batches import accumulation, micro_batches


def test_micro_batches_divide_a_ranks_share() -> None:
    assert micro_batches(32, 8) == (1, 2, 4)
    assert micro_batches(24, 2) == (1, 2, 3, 4, 6, 12)
    assert micro_batches(32, 8, pinned=2) == (2,)
    assert [accumulation(32, 8, size) for size in (1, 2, 4)] == [4, 2, 1]


def test_a_batch_that_cannot_be_shared_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="--batch-size 24 and 32"):
        micro_batches(30, 8)
    with pytest.raises(UsageError, match="works is --batch-size 8"):
        micro_batches(5, 8)


def test_a_pinned_micro_batch_that_does_not_divide_names_those_that_do() -> None:
    with pytest.raises(UsageError, match="1, 2 and 4 do"):
        micro_batches(32, 8, pinned=3)


def test_a_batch_of_billions_is_divided_at_once() -> None:
    found = micro_batches(2 * 1_000_000_007, 2)  # a prime: the worst of its size
    assert found == (1, 1_000_000_007)
    assert micro_batches(72, 2) == (1, 2, 3, 4, 6, 9, 12, 18, 36)
    assert micro_batches(72, 2, least=2)[0] == 2
