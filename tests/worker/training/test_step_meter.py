"""How far the mean of a probe's steps may err."""

from __future__ import annotations

import pytest

from autofit.worker.training.step_meter import StepMeter


def test_the_error_is_that_of_the_mean_step() -> None:
    meter = StepMeter()
    assert meter.error is None
    meter.step_s = [1.0]
    assert meter.error is None
    meter.step_s = [1.0, 1.0, 1.0, 1.0]
    assert meter.error == 0.0
    meter.step_s = [0.8, 1.2, 0.8, 1.2]
    assert meter.error == pytest.approx(0.2309 / 2, rel=1e-3)


def test_steps_that_are_alike_in_turn_err_by_their_turns() -> None:
    """Every second one generates answers first."""
    meter = StepMeter(period=2)
    meter.step_s = [5.0, 1.0]
    assert meter.error is None
    meter.step_s = [5.0, 1.0, 5.0, 1.0, 5.0]
    assert meter.error == 0.0
