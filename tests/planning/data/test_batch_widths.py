"""The shapes of micro-batches against rows that are really drawn."""

from __future__ import annotations

import random

import pytest

from autofit.domain.workload import BatchShape, DataProfile
from autofit.planning.data.batch_widths import ProbedStep, padded_tokens, typical_shapes, warmed, worst_shape

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


def shapes(*tokens: int) -> tuple[BatchShape, ...]:
    return tuple(BatchShape(padded, padded) for padded in tokens)


def flags(steps: list[ProbedStep]) -> list[tuple[tuple[int, ...], bool]]:
    return [(tuple(shape.padded_tokens for shape in step.shapes), step.is_measured) for step in steps]


def test_a_step_with_a_new_width_is_run_once_before_it_is_measured() -> None:
    steps = [shapes(100, 40), shapes(40, 97), shapes(40, 56), shapes(56, 100)]
    assert flags(list(warmed(steps, rank_count=1, seen=shapes(256), multiple=8))) == [
        ((100, 40), False),
        ((100, 40), True),
        ((40, 97), True),  # padded to 104, as 100 is
        ((40, 56), False),
        ((40, 56), True),
        ((56, 100), True),
    ]


def test_each_rank_meets_its_own_widths_and_nobody_waits_for_another() -> None:
    """Both ranks take as many steps, whichever of them meets something new."""
    steps = [shapes(64, 128), shapes(128, 128), shapes(64, 128)]
    assert flags(list(warmed(steps, rank_count=2, seen=shapes(256), multiple=8))) == [
        ((64, 128), False),
        ((64, 128), True),
        ((128, 128), False),
        ((128, 128), True),
        ((64, 128), True),
    ]


def test_what_is_seen_already_is_measured_at_once() -> None:
    steps = [shapes(200, 256), shapes(250, 256)]
    known = list(warmed(steps, rank_count=1, seen=shapes(200, 256), multiple=8))
    assert [step.is_measured for step in known] == [True, True]


@pytest.mark.parametrize("rank_count", [1, 2, 8])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_no_width_of_real_data_is_new_when_it_is_measured(rank_count: int, accumulation: int) -> None:
    typical = typical_shapes(profile(LENGTHS), 4, 12 * accumulation * rank_count)
    size = accumulation * rank_count
    steps = [typical[start : start + size] for start in range(0, len(typical), size)]
    met: set[tuple[int, int]] = set()
    done = list(warmed(steps, rank_count, seen=(worst_shape(profile(LENGTHS), 4),), multiple=8))
    for step in done:
        widths = {(place % rank_count, padded_tokens(s.padded_tokens, 8)) for place, s in enumerate(step.shapes)}
        is_worst = {(rank, padded_tokens(LENGTHS[-1], 8)) for rank in range(rank_count)}
        assert not step.is_measured or widths <= met | is_worst
        met |= widths
    assert tuple(step.shapes for step in done if step.is_measured) == tuple(steps)
    assert len(done) <= 2 * len(steps)


def test_a_pair_is_two_sequences_of_one_draw() -> None:
    rows, pairs = typical_shapes(profile(LENGTHS), 4, 99), typical_shapes(profile(LENGTHS), 4, 99, 2)
    assert [shape.padded_tokens for shape in pairs] == [shape.padded_tokens for shape in rows]
    assert all(shape.mean_tokens <= of_rows.mean_tokens for shape, of_rows in zip(pairs, rows, strict=True))
    alone = worst_shape(profile((64, 64)), 1, 2)
    assert (alone.padded_tokens, alone.mean_tokens) == (64, 63.5)  # its other sequence is shorter
