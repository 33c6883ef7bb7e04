"""The peers benchmark's times, ratios and longer trainings, from stamped steps."""

from __future__ import annotations

import pytest
from _peers_figures import Run, Times, fastest, soonest_s, step_ratio, steps_of, total_ratio


def run(start_s: float, step_s: float, end_s: float, *, count: int = 6) -> Run:
    """Its second step takes ten times as long as the others."""
    ends = [start_s, start_s + 10 * step_s]
    ends += [ends[-1] + number * step_s for number in range(1, count - 1)]
    return Run(tuple(ends), ends[-1] + end_s, 0.0, "mb4")


SLOW_START, FAST_START = run(100.0, 1.0, 5.0), run(10.0, 2.0, 5.0)


def test_the_steps_that_warm_up_count_for_no_speed() -> None:
    assert (SLOW_START.start_s, SLOW_START.step_s, SLOW_START.end_s) == (100.0, 1.0, 5.0)


def test_a_longer_training_has_the_start_and_the_end_once() -> None:
    times = Times.of([SLOW_START, run(120.0, 1.5, 7.0), run(90.0, 0.5, 3.0)])
    assert (times.start_s, times.step_s, times.end_s) == (100.0, 1.0, 5.0)
    assert times.to_end_s(1001) == 100.0 + 1000.0 + 5.0


def test_the_fastest_step_and_the_soonest_end_may_be_different_peers() -> None:
    peers = {"a": [SLOW_START], "b": [FAST_START], "does not run": []}
    assert fastest(peers) == "a"
    assert soonest_s(peers, 20) == FAST_START.start_s + 19 * 2.0 + 5.0
    assert soonest_s(peers, 1000) == 100.0 + 999.0 + 5.0


def test_ratios_are_of_the_same_round() -> None:
    quiet, busy = run(10.0, 1.0, 5.0), run(20.0, 3.0, 5.0)
    assert step_ratio([quiet, busy, busy], [busy, busy, busy]) == 1.0
    assert step_ratio([busy, run(10.0, 1.1, 5.0), run(20.0, 3.3, 5.0)], [quiet, quiet, busy]) == pytest.approx(1.1)
    assert total_ratio([quiet], [quiet]) == 1.0


def test_a_training_of_ten_minutes_has_as_many_steps_as_fit() -> None:
    assert steps_of(600.0, 0.5) == 1200
    assert steps_of(1.0, 60.0) == 3


def test_what_is_interrupted_has_no_end() -> None:
    assert Run((1.0, 2.0, 3.0), None, 0.0, "mb4").end_s is None
