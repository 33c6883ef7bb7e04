"""What a decision was worth, from speeds."""

from __future__ import annotations

import pytest
from _case import strategy
from _verdict import Speed, best, finalists, regret

from autofit.domain.knobs.method import Method

FAST, NEAR, SLOW = (strategy(Method.FULL, stage, False, 1, 4) for stage in (1, 2, 3))
ABSENT = strategy(Method.FULL, 1, True, 1, 4)
SPEEDS = {NEAR: Speed.of([98.0, 99.0, 90.0]), FAST: Speed.of([100.0, 500.0, 20.0]), SLOW: Speed.of([50.0])}


def test_the_best_has_the_highest_median_however_its_rounds_scatter() -> None:
    assert best(SPEEDS) == FAST
    assert SPEEDS[FAST] == Speed(median=100.0, low=20.0, high=500.0, round_count=3)


def test_regret_is_the_share_of_the_best_speed_that_is_given_away() -> None:
    assert regret(FAST, SPEEDS) == 0.0
    assert regret(NEAR, SPEEDS) == pytest.approx(0.02)


def test_a_pick_that_does_not_run_gives_everything_away() -> None:
    assert regret(ABSENT, SPEEDS) == 1.0


def test_without_measurements_there_is_no_regret_to_tell() -> None:
    assert regret(FAST, {}) is None


def test_finalists_are_the_best_of_each_sweep_and_every_pick_once() -> None:
    cold, warm = {FAST: 3.0, NEAR: 2.0, SLOW: 1.0}, {FAST: 1.0, NEAR: 3.0, SLOW: 2.0}
    assert finalists((cold,), (ABSENT, FAST), 1) == [FAST, ABSENT]
    assert finalists((cold, warm), (), 1) == [FAST, NEAR]
