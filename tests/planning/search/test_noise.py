"""What is believed of a speed whose steps spread."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.outcome import Measured
from autofit.domain.trial import Trial
from autofit.planning.search.noise import BUSY, SPEED_NOISE, busy_text, next_noise, speed_noise, together
from autofit.planning.search.search_state import SearchState
from tests.planning import simulated as sim

SCENE = sim.setting(sim.hardware(2, 40))
LADDER = sim.ladder(SCENE)
STRATEGY = LADDER.steps[0].strategies[0]


def trial(error: float | None) -> Trial:
    return Trial(STRATEGY, LADDER.estimate(STRATEGY), replace(sim.measured(), speed_error=error))


def outcome(error: float | None) -> Measured:
    return replace(sim.measured(), speed_error=error)


def test_a_speed_is_never_believed_beyond_what_two_probes_agree_in() -> None:
    assert speed_noise(outcome(None)) == speed_noise(outcome(0.001)) == SPEED_NOISE
    assert speed_noise(outcome(0.08)) == 0.08


def test_the_next_probe_is_expected_to_be_as_noisy_as_those_before() -> None:
    assert next_noise(()) == SPEED_NOISE
    assert next_noise([trial(0.02), trial(0.3), trial(0.06)]) == 0.06


def test_a_noisy_speed_leaves_more_open() -> None:
    quiet, noisy = (SearchState.of(LADDER, (trial(error),), SCENE).log_speed(STRATEGY).std for error in (None, 0.1))
    assert noisy > 2 * quiet


def test_a_busy_machine_is_told() -> None:
    assert busy_text(trial(BUSY / 2)) is None
    assert "±18%" in str(busy_text(trial(0.18)))
    assert busy_text(Trial(STRATEGY, LADDER.estimate(STRATEGY), sim.out_of_memory())) is None


def test_several_probes_of_one_strategy_count_by_their_noise() -> None:
    quick = replace(sim.measured(1000.0, 4 * sim.GB), speed_error=0.04, step_count=4)
    long = replace(sim.measured(900.0, 5 * sim.GB), speed_error=0.02, step_count=16)
    both = together([quick, long])
    assert both.tokens_per_s == pytest.approx((1000 + 4 * 900) / 5)
    assert both.speed_error == pytest.approx(0.04 / 5**0.5)
    assert (both.step_count, both.peak_device_bytes) == (20, 5 * sim.GB)
    assert both.step_s == pytest.approx(long.step_s * 900 / both.tokens_per_s)
    assert together([long]) == long
