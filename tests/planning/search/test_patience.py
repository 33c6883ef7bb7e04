"""How long a probe's ranks may stand still within a step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Probe, Trial
from autofit.planning.search import patience
from autofit.planning.search.patience import LEAST_S, STEPS, step_silence_s
from autofit.planning.search.policy import decide
from autofit.planning.search.search_state import SearchState
from autofit.planning.setting import Setting
from tests.planning import simulated as sim

SCENE = sim.setting(sim.hardware(2, 80))


def search(*tokens_per_s: float, scene: Setting = SCENE) -> tuple[SearchState, Strategy]:
    """After a probe of one strategy at each of these speeds, and that strategy."""
    rungs = sim.ladder(scene)
    strategy = rungs.steps[0].strategies[0]
    trials = [Trial(strategy, rungs.estimate(strategy), sim.measured(speed)) for speed in tokens_per_s]
    return SearchState.of(rungs, trials, scene), strategy


def test_nobody_waits_long_for_what_takes_a_moment() -> None:
    state, strategy = search(1e6)
    assert step_silence_s(strategy, state) == LEAST_S


def test_a_long_step_has_its_time() -> None:
    state, strategy = search(100.0)
    step_s = strategy.micro_batch * 2048 * 2 / 100.0  # of one micro-batch on both devices
    silence_s = step_silence_s(strategy, state)
    assert silence_s is not None
    assert STEPS * step_s < silence_s < 2 * STEPS * 3 * step_s


def test_what_nobody_has_seen_here_may_be_many_times_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LEAST_S", 0.0)
    unseen, strategy = search()
    seen, _ = search(unseen.ladder.estimate(strategy).speed.tokens_per_s)
    before_s, after_s = step_silence_s(strategy, unseen), step_silence_s(strategy, seen)
    assert before_s is not None
    assert after_s is not None
    assert 5 * after_s < before_s < 10 * after_s


def test_who_compiles_an_update_has_all_the_time_there_is() -> None:
    state, strategy = search(1e6)
    compiled = replace(strategy, rung=replace(strategy.rung, optimizer=Optimizer.ADAMW_8BIT_BF16))
    assert step_silence_s(compiled, state) is None


def test_every_probe_is_told() -> None:
    for scene in (SCENE, replace(SCENE, request=replace(SCENE.request, pins=Pins(zero_stage=2)))):
        action = decide(sim.ladder(scene), (), scene)
        assert isinstance(action, Probe)
        assert action.step_silence_s is not None
