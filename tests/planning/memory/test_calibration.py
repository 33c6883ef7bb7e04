"""Constants from trials: what they were measured with comes out again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.estimate import Constants, Estimate
from autofit.domain.outcome import Crashed, Measured, Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.planning.memory.calibration import calibrate_memory
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.prior_constants import prior
from autofit.planning.speed.step_time import estimate_speed
from tests.planning import simulated as sim

SCENE = sim.setting()
STRATEGIES = [strategy for step in sim.ladder(SCENE).steps[:4] for strategy in step.strategies]
TRUE = Constants(700_000_000, 450_000_000, 1.06, 0.5, 0.7)


def trial(strategy: Strategy, *, is_rehearsal: bool, error: float = 1.0) -> Trial:
    """As a device with the constants TRUE would measure it."""
    memory = estimate_memory(strategy, SCENE, is_rehearsal=is_rehearsal)
    tensors_bytes = memory.peak_bytes - memory.runtime_bytes
    shared_bytes = 0 if is_rehearsal else TRUE.communicator_bytes
    beside_bytes = TRUE.runtime_bytes + shared_bytes
    peak_bytes = round(error * TRUE.fragmentation * tensors_bytes) + beside_bytes
    outcome = Measured(peak_bytes, 0, 1000.0, 1.0, 1.0, 0.0, base_bytes=beside_bytes)
    return Trial(strategy, Estimate(memory, speed=estimate_speed(strategy, SCENE)), outcome, is_rehearsal)


def test_rehearsals_tell_fragmentation_and_probes_the_communicator() -> None:
    trials = [trial(strategy, is_rehearsal=True) for strategy in STRATEGIES[:3]]
    trials += [trial(strategy, is_rehearsal=False) for strategy in STRATEGIES[3:6]]
    fitted = calibrate_memory(prior(SCENE.device), trials, SCENE)
    assert fitted.runtime_bytes == TRUE.runtime_bytes
    assert fitted.fragmentation == pytest.approx(TRUE.fragmentation, rel=1e-6)
    assert fitted.communicator_bytes == pytest.approx(TRUE.communicator_bytes, rel=1e-3)
    assert fitted.fitted_from == 6


def test_one_wrong_point_moves_nothing() -> None:
    trials = [trial(strategy, is_rehearsal=True) for strategy in STRATEGIES[:4]]
    trials.append(trial(STRATEGIES[4], is_rehearsal=True, error=1.4))
    assert calibrate_memory(prior(SCENE.device), trials, SCENE).fragmentation == pytest.approx(
        TRUE.fragmentation, rel=1e-6
    )


def test_without_rehearsals_the_runtime_stands_and_the_communicator_is_what_lies_beside_it() -> None:
    trials = [trial(strategy, is_rehearsal=False) for strategy in STRATEGIES[:2]]
    known = prior(SCENE.device)
    fitted = calibrate_memory(known, trials, SCENE)
    assert fitted.runtime_bytes == known.runtime_bytes
    assert fitted.runtime_bytes + fitted.communicator_bytes == TRUE.runtime_bytes + TRUE.communicator_bytes
    assert fitted.fragmentation == pytest.approx(TRUE.fragmentation, rel=1e-6)


def test_rehearsals_alone_leave_the_communicator_as_it_was() -> None:
    known = prior(SCENE.device)
    fitted = calibrate_memory(known, [trial(strategy, is_rehearsal=True) for strategy in STRATEGIES[:3]], SCENE)
    assert fitted.communicator_bytes == known.communicator_bytes


def test_failures_teach_nothing_here() -> None:
    known = prior(SCENE.device)
    failed = replace(trial(STRATEGIES[0], is_rehearsal=False), outcome=Crashed(0, Phase.BUILD, "boom"))
    assert calibrate_memory(known, [failed], SCENE) == known
