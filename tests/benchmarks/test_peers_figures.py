"""The peers benchmark's times, ratios and longer trainings, from stamped steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from _peers_competitors import Training
from _peers_figures import Run, Times, fastest, soonest_s, step_ratio, steps_of, total_ratio
from _peers_report import body, longer_s
from _peers_rounds import Seen

from autofit.domain.knobs.method import Method
from tests.builders import make_hardware


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


def test_a_longer_training_has_its_own_search_and_the_speed_of_all_runs_of_its_strategy(tmp_path: Path) -> None:
    training = Training(tmp_path, tmp_path, 64, 8, Method.FULL, 8, 16, make_hardware(2), None)
    seen = Seen(training, {"trl": [run(10.0, 1.0, 5.0)]}, [run(40.0, 1.0, 5.0)], [run(30.0, 1.2, 5.0)])
    looked = replace(run(90.0, 3.0, 0.0), is_whole=False)
    seen.longer = {"an hour": (1001, looked), "another": (1001, replace(looked, setting="mb2"))}
    assert longer_s(seen, "an hour") == pytest.approx(90.0 + 1000 * 1.2 + 5.0)
    assert longer_s(seen, "another") == pytest.approx(90.0 + 1000 * 3.0 + 5.0)


@pytest.mark.parametrize(("step_s", "is_met"), [(1.02, True), (1.04, False)])
def test_the_aim_is_a_step_no_more_than_three_per_cent_slower(tmp_path: Path, step_s: float, is_met: bool) -> None:
    training = Training(tmp_path, tmp_path, 64, 8, Method.FULL, 8, 16, make_hardware(2), None)
    ours = [run(40.0, step_s, 5.0)]
    told = body(Seen(training, {"slow": [run(1.0, 9.0, 5.0)], "fast": [run(9.0, 1.0, 5.0)]}, ours, ours))
    assert told["fastest_peer"] == "fast"
    assert told["aims"] == {"a step at most 3% slower than the fastest peer's": is_met}
