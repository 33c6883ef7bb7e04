"""The shapes of micro-batches against rows that are really drawn."""

from __future__ import annotations

import random

import pytest

from autofit.domain.workload import DataProfile
from autofit.planning.workload import typical_shapes, worst_shape

RANDOM = random.Random(1)
LENGTHS = tuple(
    sorted(RANDOM.randint(20, 60) if RANDOM.random() < 0.8 else RANDOM.randint(200, 256) for _ in range(900))
)


def profile(lengths: tuple[int, ...]) -> DataProfile:
    return DataProfile("d", "text", len(lengths), 0, lengths[-1], lengths)


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 16])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_means_are_those_of_random_draws_for_every_stride(micro_batch: int, stride: int) -> None:
    drawn = [sorted(RANDOM.choices(LENGTHS, k=micro_batch)) for _ in range(20_000)]
    padded = sum(rows[-1] for rows in drawn) / len(drawn)
    mean = sum(sum(rows) / micro_batch for rows in drawn) / len(drawn)
    shapes = typical_shapes(profile(LENGTHS), micro_batch, 2000)[::stride]
    assert sum(shape.padded_tokens for shape in shapes) / len(shapes) == pytest.approx(padded, rel=0.05)
    assert sum(shape.mean_tokens for shape in shapes) / len(shapes) == pytest.approx(mean, rel=0.05)


def test_the_worst_batch_is_padded_where_the_data_are() -> None:
    worst = worst_shape(profile(LENGTHS), 4)
    assert worst.padded_tokens == LENGTHS[-1]
    assert worst.mean_tokens == LENGTHS[-1] - 0.75
    assert worst_shape(profile(LENGTHS), 1).mean_tokens == LENGTHS[-1]
    assert worst_shape(profile((256, 256)), 4).mean_tokens == 256


def test_rows_of_one_length_are_that_long() -> None:
    assert {shape.padded_tokens for shape in typical_shapes(profile((64,) * 5), 2, 9)} == {64}
