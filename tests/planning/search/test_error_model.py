"""What trials of one rung tell of another, by the errors that both share."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import count

import pytest

from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.planning.search.error_model import log_speed, speed_effects
from autofit.planning.search.search_state import SearchState
from tests.planning import simulated as sim

SMALL = replace(sim.LLAMA_7B, parameter_count=1_000_000_000)
SCENE = sim.setting(sim.hardware(2, 24), sim.LLAMA_7B, tokens=4096)


@cache
def state(*, offload: Offload | None = None, slowdown: float = 1.0) -> SearchState:
    """After probes of a rung that offloads nothing and, if there is `offload`, of one that is slower than predicted."""
    rungs = sim.ladder(SCENE)
    plain = strategy()
    trials = [Trial(plain, rungs.estimate(plain), sim.measured(rungs.estimate(plain).speed.tokens_per_s))]
    if offload is not None:
        moved = strategy(offload=offload)
        speed = rungs.estimate(moved).speed.tokens_per_s / slowdown
        trials.append(Trial(moved, rungs.estimate(moved), sim.measured(speed)))
    return SearchState.of(rungs, trials, SCENE)


def strategy(
    checkpointing: GradientCheckpointing = GradientCheckpointing.ON, offload: Offload = Offload.NONE
) -> Strategy:
    steps = sim.ladder(SCENE).steps
    wanted = {"zero_stage": 3, "method": Method.LORA, "gradient_checkpointing": checkpointing, "offload": offload}
    step = next(step for step in steps if wanted.items() <= step.rung.by_name.items())
    return step.strategies[0]


def expected(search: SearchState, of: Strategy) -> float:
    return search.log_speed(of).mean


def test_a_slow_host_is_slow_for_all_that_lies_there() -> None:
    usual, slow = state(offload=Offload.ALL), state(offload=Offload.ALL, slowdown=1.5)
    for other in (strategy(offload=Offload.OPTIMIZER), strategy(GradientCheckpointing.OFFLOAD)):
        assert expected(slow, other) < expected(usual, other) - 0.02


def test_every_second_layer_is_nearly_settled_by_all_layers() -> None:
    before, after = SearchState.of(sim.ladder(SCENE), (), SCENE), state()
    between = strategy(GradientCheckpointing.EVERY_2)
    assert after.log_speed(between).std < 0.05 < before.log_speed(between).std


def test_what_is_asked_again_of_one_state_is_answered_once() -> None:
    search, counter = replace(state()), count(1)
    assert {search.once("key", lambda: next(counter)) for _ in range(3)} == {1}


def test_communication_may_err_at_every_stage() -> None:
    scene = sim.setting(sim.hardware(8, 80))
    rungs = sim.ladder(scene)
    for stage in range(4):
        step = next(step for step in rungs.steps if step.rung.zero_stage == stage)
        estimate = rungs.estimate(step.strategies[0])
        assert estimate.speed.communication_s > 0
        effects = [one for one in speed_effects(step.strategies[0], estimate) if one.name.startswith("communication")]
        assert [one.name for one in effects] == [f"communication {stage}", f"communication {stage} {step.rung.method}"]
        assert math.hypot(*(one.prior_std for one in effects)) == pytest.approx(0.45, rel=0.01)


def test_zero_2_pays_for_moving_gradients_only_where_it_does_so_more_often_than_zero_1() -> None:
    scene = sim.setting(sim.hardware(2, 80), SMALL, global_batch=8, pins=Pins(method=Method.FULL))
    rungs = sim.ladder(scene)
    overheads = {
        (one.rung.zero_stage, one.gradient_accumulation): log_speed(one, of_it) - math.log(of_it.speed.tokens_per_s)
        for step in rungs.steps
        if step.rung.offload is Offload.NONE
        for one, of_it in zip(step.strategies, step.estimates, strict=True)
    }
    assert overheads[2, 1] == pytest.approx(overheads[1, 1])
    assert overheads[2, 4] < overheads[1, 4] - 0.1
    assert overheads[3, 1] < overheads[1, 1] - 0.01
