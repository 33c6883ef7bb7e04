"""What is left of rows that are cut, against rows that are really cut."""

from __future__ import annotations

import random

import pytest

from autofit.domain.workload import RowCounts
from autofit.planning.data.truncation import RowExtent, Truncation, count_rows

RANDOM = random.Random(0)
ROWS = [[RANDOM.random() < 0.1 for _ in range(RANDOM.randint(1, 60))] for _ in range(300)]  # what of each is learned


def extent(row: list[bool]) -> RowExtent:
    places = [i for i, is_learned in enumerate(row) if is_learned and i > 0]
    return RowExtent(len(row), min(places, default=-1), max(places, default=-1))


@pytest.mark.parametrize("keeps_start", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 20, 60])
def test_the_counts_are_those_of_rows_that_are_cut(limit: int, keeps_start: bool) -> None:
    pieces = [row[:limit] if keeps_start else row[-limit:] for row in ROWS]
    kept = [(row, piece) for row, piece in zip(ROWS, pieces, strict=True) if any(piece[1:]) and any(row[1:])]
    counts = count_rows([extent(row) for row in ROWS], Truncation(limit, keeps_start), 0.05)
    assert counts.total == len(ROWS)
    assert counts.empty == sum(not any(row[1:]) for row in ROWS)
    assert counts.total - counts.lost == len(kept)
    assert counts.cut == sum(len(piece) < len(row) for row, piece in kept)
    lost = [row[limit:] if keeps_start else row[1 : max(len(row) - limit, 1)] for row, _ in kept]
    assert counts.cut_answers == sum(map(any, lost))


@pytest.mark.parametrize("keeps_start", [True, False])
@pytest.mark.parametrize("allowed", [0.3, 0.5])
def test_the_length_that_is_proposed_is_the_least_of_its_kind_that_keeps_enough(
    allowed: float, keeps_start: bool
) -> None:
    rows = [extent(row) for row in ROWS]
    enough = count_rows(rows, Truncation(1, keeps_start), allowed).enough_tokens
    assert enough is not None
    assert enough % 8 == 0
    assert count_rows(rows, Truncation(enough, keeps_start), allowed).lost <= allowed * len(rows)
    assert count_rows(rows, Truncation(enough - 8, keeps_start), allowed).lost > allowed * len(rows)


def test_no_length_is_enough_for_rows_that_hold_nothing() -> None:
    rows = [RowExtent(9, -1, -1), RowExtent(9, 3, 8)]
    assert count_rows(rows, Truncation(4), 0.05) == RowCounts(2, empty=1, cut=1, cut_answers=1)
    assert count_rows(rows, Truncation(4), 0.5).enough_tokens == 8


def test_without_a_limit_nothing_is_cut() -> None:
    rows = [extent(row) for row in ROWS]
    counts = count_rows(rows, Truncation(None), 0.05)
    assert (counts.dropped, counts.cut, counts.cut_answers) == (0, 0, 0)


def test_rows_that_are_not_cut_are_left_out_where_they_are_longer() -> None:
    rows = [RowExtent(length, 1, length - 1) for length in (4, 9, 10, 20)]
    counts = count_rows(rows, Truncation(9, is_whole=True), 0.25)
    assert counts == RowCounts(4, too_long=2, enough_tokens=16)
    assert counts.lost == 2
