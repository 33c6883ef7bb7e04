"""What is chosen without a probe, and where a probe is taken all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.goal import Goal, TimeToEnd
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Crashed, Outcome, Phase, TimedOut
from autofit.domain.plan import Verdict
from autofit.domain.trial import Choose, Probe, Trial
from autofit.planning.plan.fit import judge
from autofit.planning.search.exhaustive import exhaustive_choice
from autofit.planning.search.expected_improvement import expectations
from autofit.planning.search.policy import decide
from autofit.planning.search.search_state import SearchState
from autofit.planning.search.sure_choice import sure_choice
from autofit.planning.setting import Setting
from tests.planning import simulated as sim

SMALL = replace(sim.LLAMA_7B, parameter_count=1_000_000_000)
ROOMY = sim.traced(sim.setting(sim.hardware(2, 80), SMALL, global_batch=2, pins=Pins(method=Method.FULL)))
TIGHT = sim.traced(sim.setting(sim.hardware(2, 9, host_gb=8), SMALL, global_batch=2, pins=Pins(method=Method.FULL)))
ONE_STEP, LONG = TimeToEnd(1), TimeToEnd(1000)


def first_action(scene: Setting, goal: Goal) -> object:
    return decide(sim.ladder(scene), (), scene, goal)


def test_a_training_of_a_single_step_that_is_sure_to_fit_is_not_probed() -> None:
    action = first_action(ROOMY, ONE_STEP)
    assert isinstance(action, Choose)
    choice = action.choice
    assert choice.measured is None
    for words in ("not probed: it needs", "at most of 80.0 GB", "the steps of a probe would take", "expected to save"):
        assert words in choice.why
    assert {rest.rung for rest in choice.unprobed} >= {
        step.rung for step in sim.ladder(ROOMY).steps if step.rung != choice.strategy.rung
    }


@pytest.mark.parametrize("goal", [LONG, TimeToEnd(), sim.CERTAIN])
def test_what_a_probe_may_help_or_nobody_knows_the_length_of_is_probed(goal: Goal) -> None:
    assert isinstance(first_action(ROOMY, goal), Probe)


def test_what_is_not_sure_to_fit_is_probed_however_short_the_training() -> None:
    assert not isinstance(first_action(TIGHT, ONE_STEP), Choose)


def test_nothing_is_sure_without_a_trace() -> None:
    """As of a script, whose model nobody can trace."""
    untraced = replace(ROOMY, traces=())
    assert not isinstance(first_action(untraced, ONE_STEP), Choose)


def test_what_a_probe_may_gain_more_than_it_costs_is_probed_instead_of_what_is_sure() -> None:
    """A roomy strategy is sure; a faster one may fit. Once that has failed nothing more is probed."""
    scene = sim.traced(sim.setting(sim.hardware(2, 23), SMALL, pins=Pins(method=Method.FULL)))
    ladder, goal = sim.ladder(scene), TimeToEnd(34)
    sure = sure_choice(SearchState.of(ladder, (), scene, goal))
    assert sure is not None
    assert sure.paying
    trials: list[Trial] = []
    while isinstance(action := decide(ladder, trials, scene, goal), Probe):
        assert action.strategy != sure.of.strategy
        trials.append(Trial(action.strategy, ladder.estimate(action.strategy), sim.out_of_memory()))
    assert isinstance(action, Choose)
    assert action.choice.measured is None


@pytest.mark.parametrize(
    ("outcome", "is_sure"),
    [(sim.out_of_memory(), False), (Crashed(0, Phase.STEP, "boom"), True), (TimedOut(0, Phase.FORWARD, 120.0), True)],
)
def test_after_a_lack_of_memory_nothing_is_sure_and_after_another_failure_the_next(
    outcome: Outcome, is_sure: bool
) -> None:
    """A crash says nothing of what other rungs need."""
    ladder, first = sim.ladder(ROOMY), first_action(ROOMY, ONE_STEP)
    assert isinstance(first, Choose)
    strategy = first.choice.strategy
    failed = Trial(strategy, ladder.estimate(strategy), outcome)
    next_one = sure_choice(SearchState.of(ladder, (failed,), ROOMY, ONE_STEP))
    assert (next_one is not None) == is_sure
    assert next_one is None or next_one.of.strategy.rung != strategy.rung


def test_what_is_hardly_faster_than_what_was_measured_and_not_known_as_well_is_not_chosen_unprobed() -> None:
    """Of short steps, most of which are communication."""
    short_rows = sim.setting(sim.hardware(2, 140), SMALL, tokens=128, global_batch=2, pins=Pins(method=Method.FULL))
    scene = sim.traced(short_rows)
    ladder, goal = sim.ladder(scene), TimeToEnd(40)
    measured = next(step.strategies[0] for step in ladder.steps if step.rung.zero_stage == 3)
    found = replace(sim.measured(ladder.estimate(measured).speed.tokens_per_s), total_s=9.0)
    search = SearchState.of(ladder, [Trial(measured, ladder.estimate(measured), found)], scene, goal)
    likely = max(expectations(search, search.histories), key=lambda one: one.expected)
    assert found.tokens_per_s < likely.expected < 1.1 * found.tokens_per_s
    assert likely.chance > 0.99
    assert sure_choice(search) is None


def test_an_exhaustive_search_tells_the_regret_of_a_choice_without_a_probe() -> None:
    ladder = sim.ladder(ROOMY)
    action = first_action(ROOMY, ONE_STEP)
    assert isinstance(action, Choose)
    picked, other = (
        action.choice.strategy,
        next(one for step in ladder.steps for one in step.strategies if one != action.choice.strategy),
    )
    trials = [
        Trial(strategy, ladder.estimate(strategy), sim.measured(tokens_per_s))
        for strategy, tokens_per_s in ((picked, 900.0), (other, 1000.0))
    ]
    found = exhaustive_choice(ladder, trials, ROOMY, ONE_STEP)
    assert found.strategy == other
    assert "after 0, regret 10.0%" in found.why


def test_what_is_expected_to_be_faster_than_what_was_measured_is_chosen_unprobed() -> None:
    """Of a short training, which a probe would make longer."""
    ladder, first = sim.ladder(ROOMY), first_action(ROOMY, ONE_STEP)
    assert isinstance(first, Choose)
    every = [strategy for step in ladder.steps for strategy in step.strategies]
    slowest = min(every, key=lambda one: ladder.estimate(one).speed.tokens_per_s)
    measured = replace(sim.measured(ladder.estimate(slowest).speed.tokens_per_s), total_s=9.0)
    action = decide(ladder, [Trial(slowest, ladder.estimate(slowest), measured)], ROOMY, ONE_STEP)
    assert isinstance(action, Choose)
    assert (action.choice.strategy, action.choice.measured) == (first.choice.strategy, None)


def test_what_is_as_good_as_sure_but_not_by_the_most_it_may_need_is_chosen_with_its_chance() -> None:
    scene = sim.traced(sim.setting(sim.hardware(2, 25), SMALL, global_batch=2, pins=Pins(method=Method.FULL)))
    action = first_action(scene, ONE_STEP)
    assert isinstance(action, Choose)
    estimate = sim.ladder(scene).estimate(action.choice.strategy)
    assert judge(action.choice.strategy, estimate, scene).verdict is Verdict.PROBE
    assert "of 25.0 GB, and fits with a chance of 9" in action.choice.why
