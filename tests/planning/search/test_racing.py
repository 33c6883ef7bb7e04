"""Probes that end as soon as they are slower beyond doubt, and what is believed of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Measured, Outcome, Phase
from autofit.domain.trial import Choose, Probe, Trial
from autofit.planning.memory.calibration import calibrate_memory
from autofit.planning.search.noise import SPEED_NOISE, outpacing, step_noise
from autofit.planning.search.policy import decide
from autofit.planning.search.search_state import SearchState
from autofit.planning.search.warm_start import decide_with_warm_start
from tests.planning import simulated as sim

SMALL = replace(sim.LLAMA_7B, parameter_count=1_000_000_000)
PLAIN = sim.setting(sim.hardware(2, 40), SMALL, pins=Pins(method=Method.FULL))
SCENE = sim.traced(replace(PLAIN, request=replace(PLAIN.request, eval_fraction=0.1)))
LADDER = sim.ladder(SCENE)
CLUSTER = sim.Cluster(SCENE, LADDER, seed=5)


def trial(probe: Probe, outcome: Outcome) -> Trial:
    return Trial(probe.strategy, LADDER.estimate(probe.strategy), outcome)


def raced() -> sim.Run:
    return sim.race(SCENE, LADDER, CLUSTER.racing())


def outpaced(run: sim.Run) -> list[Trial]:
    return [one for one in run.trials if isinstance(one.outcome, Measured) and one.outcome.is_outpaced]


def test_the_first_probe_has_all_the_time_and_the_next_ones_must_keep_up() -> None:
    first = decide(LADDER, (), SCENE, sim.CERTAIN)
    assert isinstance(first, Probe)
    assert first.least_tokens_per_s is None
    best = sim.measured(1000.0, micro_batch=first.strategy.micro_batch)
    then = decide(LADDER, (trial(first, best),), SCENE, sim.CERTAIN)
    assert isinstance(then, Probe)
    assert then.least_tokens_per_s is not None
    assert 0.9 * 1000 < then.least_tokens_per_s < 1000


def test_steps_that_spread_leave_more_doubt() -> None:
    quiet = replace(sim.measured(1000.0), speed_error=0.001, step_count=4)
    restless = replace(quiet, speed_error=0.04)
    strategy = LADDER.steps[0].strategies[0]
    trials = [(Trial(strategy, LADDER.estimate(strategy), one),) for one in (quiet, restless)]
    assert step_noise(trials[0]) == SPEED_NOISE
    assert step_noise(trials[1]) == pytest.approx(0.08), "of one step, not of the mean of four"
    assert outpacing(restless, trials[1]) < outpacing(quiet, trials[0]) < 1000


def test_a_race_ends_early_what_it_does_not_choose_and_chooses_as_well() -> None:
    run, whole = raced(), sim.search(SCENE, LADDER, CLUSTER.probe)
    assert isinstance(run.end, Choose)
    assert isinstance(whole.end, Choose)
    assert outpaced(run)
    assert run.end.choice.strategy not in [one.strategy for one in outpaced(run)]
    speeds = [CLUSTER.tokens_per_s(end.choice.strategy) for end in (run.end, whole.end)]
    assert speeds[0] > 0.97 * speeds[1]
    seconds = CLUSTER.probe_s(outpaced(run)[0].strategy, outpaced(run)[0].outcome)
    assert seconds < CLUSTER.probe_s(outpaced(run)[0].strategy, sim.measured())


def test_what_was_outpaced_is_known_to_be_slow_and_nobody_asks_again() -> None:
    run = raced()
    strategies = [one.strategy for one in run.trials]
    assert len(set(strategies)) == len(strategies)
    confirmed = decide_with_warm_start(LADDER, run.trials, (), SCENE, sim.CERTAIN)
    assert isinstance(run.end, Choose)
    assert isinstance(confirmed, Probe)
    assert confirmed.strategy == run.end.choice.strategy
    assert confirmed.least_tokens_per_s is None


def test_what_was_outpaced_is_chosen_only_after_a_whole_probe() -> None:
    """Of a rival that is not there any more, such as one of a rung that the machine does not have now."""
    slow = replace(sim.measured(1e6, sim.GB), step_count=1, is_outpaced=True)
    only = Probe(LADDER.steps[0].strategies[0], "")
    trials = [trial(only, slow)]
    assert not SearchState.of(LADDER, trials, SCENE).histories[0].measurements
    for _ in range(400):
        action = decide(LADDER, trials, SCENE, sim.CERTAIN)
        if isinstance(action, Choose):
            break
        assert isinstance(action, Probe)
        if action.strategy == only.strategy:
            assert action.least_tokens_per_s is None, "it is not stopped twice"
            trials.append(trial(action, replace(slow, step_count=3, is_outpaced=False)))
        else:
            trials.append(trial(action, sim.measured(1.0, sim.GB)))
    assert isinstance(action, Choose)
    assert action.choice.strategy == only.strategy
    assert not action.choice.measured.is_outpaced


@pytest.mark.parametrize(("phase", "is_whole"), [(Phase.BACKWARD, True), (Phase.SAVE, False)])
def test_its_memory_is_that_of_its_steps(phase: Phase, is_whole: bool) -> None:
    """Where evaluation or save are expected to take the most, a training takes at least what the steps did."""
    strategy = LADDER.steps[0].strategies[0]
    estimate = LADDER.estimate(strategy)
    known = Trial(
        strategy,
        replace(estimate, memory=replace(estimate.memory, phase=phase)),
        replace(sim.measured(1000.0, estimate.memory.peak_bytes // 2), is_outpaced=True),
    )
    constants = calibrate_memory(SCENE.constants, [known], SCENE)
    assert (constants != SCENE.constants) == is_whole
