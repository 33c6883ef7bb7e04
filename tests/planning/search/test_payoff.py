"""Probes against the time that they cost and save."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autofit.domain.goal import TimeToEnd
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.ladder import Ladder
from autofit.domain.outcome import Measured, Outcome
from autofit.domain.strategy import Strategy
from autofit.domain.task import Task
from autofit.domain.trial import Choose, Trial
from autofit.domain.units import brief_seconds
from autofit.planning.search.expected_improvement import Expectation, expectations
from autofit.planning.search.merit import cap
from autofit.planning.search.payoff import Payoff, payoffs
from autofit.planning.search.policy import decide
from autofit.planning.search.probe_cost import START_S, ProbeCost
from autofit.planning.search.search_state import SearchState
from autofit.planning.setting import Setting
from tests.planning import simulated as sim

SMALL = replace(sim.LLAMA_7B, parameter_count=1_000_000_000)
FREE = sim.traced(sim.setting(sim.hardware(2, 40), SMALL))
FULL = sim.traced(sim.setting(sim.hardware(2, 40), SMALL, pins=Pins(method=Method.FULL)))
PROBE_S = 20.0
ONE_PROBE = TimeToEnd(80)  # too long to start unseen, too short for a second probe


def answer(rungs: Ladder, strategy: Strategy) -> Measured:
    """As predicted, in PROBE_S."""
    speed = rungs.estimate(strategy).speed.tokens_per_s
    peak_bytes = rungs.estimate(strategy).memory.peak_bytes
    return replace(sim.measured(speed, peak_bytes, micro_batch=strategy.micro_batch), total_s=PROBE_S)


def search(scene: Setting, goal: TimeToEnd) -> sim.Run:
    rungs = sim.ladder(scene)
    return sim.search(scene, rungs, lambda strategy: answer(rungs, strategy), goal=goal)


def chosen(run: sim.Run) -> Choose:
    assert isinstance(run.end, Choose)
    return run.end


def test_a_short_training_takes_what_fits_first_and_a_long_one_looks_on() -> None:
    short, long = search(FULL, ONE_PROBE), search(FULL, TimeToEnd(100_000))
    assert short.probe_count == 1 < long.probe_count
    speeds = [chosen(run).choice.measured.tokens_per_s for run in (short, long)]
    assert speeds[0] <= speeds[1]


def test_the_certificate_weighs_the_next_probe_against_what_is_left() -> None:
    run = search(FULL, ONE_PROBE)
    why = chosen(run).choice.why
    for words in ("another probe would cost", "is expected to save", "of the training", "faster remains possible"):
        assert words in why
    measured = chosen(run).choice.measured
    rest_s = ONE_PROBE.step_count * sim.ladder(FULL).steps[0].estimates[0].speed.tokens_per_step / measured.tokens_per_s
    assert f"of the {brief_seconds(rest_s)} of the training" in why
    reasons = [rest.reason for rest in chosen(run).choice.unprobed]
    assert all(reasons)


def test_of_a_training_of_unknown_length_it_says_what_it_counted_with() -> None:
    reasons = chosen(search(FULL, TimeToEnd())).choice.why
    assert "an hour's training" in reasons or "nothing left can beat it" in reasons


def test_nothing_that_fits_is_missed_for_want_of_time() -> None:
    rungs = sim.ladder(FULL)
    leanest = [step.leanest for step in rungs.steps]
    fitting = min(leanest, key=lambda strategy: rungs.estimate(strategy).memory.peak_bytes)

    def probe(strategy: Strategy) -> Outcome:
        return answer(rungs, strategy) if strategy == fitting else sim.out_of_memory()

    assert chosen(sim.search(FULL, rungs, probe, goal=ONE_PROBE)).choice.strategy == fitting


def test_all_parameters_beside_lora_are_predicted_unless_a_probe_is_cheap() -> None:
    short, long = search(FREE, ONE_PROBE), search(FREE, TimeToEnd(1_000_000))
    assert chosen(short).choice.strategy.rung.method is Method.LORA
    beside = chosen(short).choice
    assert beside.plain is not None
    assert beside.plain.measured is None
    assert beside.plain.expected is not None
    assert beside.plain.expected.low < beside.plain.expected.tokens_per_s < beside.plain.expected.high
    measured = chosen(long).choice.plain
    assert measured is not None
    assert measured.measured is not None


def test_what_a_probe_takes_is_learned_from_the_trials() -> None:
    rungs = sim.ladder(FULL)
    strategy = rungs.steps[0].strategies[0]
    tokens = rungs.estimate(strategy).speed.tokens_per_step
    before, trial = ProbeCost.of((), tokens), Trial(strategy, rungs.estimate(strategy), answer(rungs, strategy))
    after = ProbeCost.of((trial,), tokens)
    assert before.beside_s == START_S
    speed = rungs.estimate(strategy).speed.tokens_per_s
    assert after.seconds(strategy, speed) == pytest.approx(PROBE_S)
    assert after.seconds(strategy, speed / 10) > 2 * PROBE_S, "a slower one takes longer"
    step_s = tokens / strategy.gradient_accumulation / speed * min(strategy.gradient_accumulation, 3)
    longer = replace(answer(rungs, strategy), total_s=PROBE_S + 22.5, step_count=math.ceil(24.0 / step_s))
    looked = ProbeCost.of((replace(trial, outcome=longer),), tokens)
    assert looked.beside_s == pytest.approx(after.beside_s, abs=2 * step_s), "what it measured longer is no start"
    failed = Trial(strategy, rungs.estimate(strategy), replace(sim.out_of_memory(), total_s=3.0))
    assert ProbeCost.of((failed,), tokens).beside_s == 3.0


def test_a_probe_of_generated_answers_costs_whole_steps() -> None:
    """A rank generates the answers of a step at a time, so that no part of it is probed alone."""
    strategy = replace(sim.ladder(FULL).steps[0].strategies[0], gradient_accumulation=30)
    tokens_per_step, step_s = 3000.0, 30.0
    whole, part = (ProbeCost.of((), tokens_per_step, task=task) for task in (Task.GRPO, Task.SFT))
    assert whole.seconds(strategy, tokens_per_step / step_s) == pytest.approx(START_S + 3 * step_s, rel=0.01)
    steps_s = 1.0 + 2 * step_s / 10  # the first is of one micro-batch
    assert part.seconds(strategy, tokens_per_step / step_s) == pytest.approx(START_S + steps_s, rel=0.03)


def expectation(expected: float, spread: float, chance: float = 1.0) -> Expectation:
    rungs = sim.ladder(FULL)
    of = expectations(SearchState.of(rungs, (), FULL), SearchState.of(rungs, (), FULL).histories)[0]
    bound, low = expected * (1 + 2 * spread), expected * (1 - 2 * spread)
    return replace(of, expected=expected, spread=spread, chance=chance, bound=bound, low=low)


def test_the_saving_is_that_of_the_expected_speed_where_nothing_is_uncertain() -> None:
    sure = expectation(200.0, 1e-4)
    assert sure.expected_saving_s(100.0, 10_000.0, noise=1e-9) == pytest.approx(50.0, rel=1e-3)
    assert expectation(200.0, 1e-4, 0.5).expected_saving_s(100.0, 10_000.0, 1e-9) == pytest.approx(25.0, rel=1e-3)
    assert expectation(90.0, 1e-4).expected_saving_s(100.0, 10_000.0, 1e-9) == pytest.approx(0.0, abs=1e-6)


def test_a_difference_below_the_noise_saves_nothing() -> None:
    near = expectation(100.0, 0.01)
    assert near.expected_saving_s(100.0, 10_000.0, noise=0.001) > 5 * near.expected_saving_s(100.0, 10_000.0, 0.1)


def test_the_reservation_value_is_where_a_probe_saves_what_it_costs() -> None:
    of = expectation(110.0, 0.1)
    payoff = Payoff(of, cost_s=5.0, rest_s=1000.0, tokens=100_000.0, noise=0.01)
    assert of.expected_saving_s(payoff.reservation_s, 100_000.0, 0.01) == pytest.approx(5.0, rel=1e-3)
    doubted = replace(payoff, seen_share=0.5)
    assert doubted.saving_s == pytest.approx(payoff.saving_s / 2)
    assert doubted.reservation_s > payoff.reservation_s
    dearer, likelier = replace(payoff, cost_s=20.0), replace(payoff, of=replace(of, expected=120.0))
    assert likelier.reservation_s < payoff.reservation_s < dearer.reservation_s


def test_only_what_may_be_faster_has_a_payoff() -> None:
    rungs = sim.ladder(FULL)
    first = decide(rungs, (), FULL, TimeToEnd(1000))
    trials = (Trial(first.strategy, rungs.estimate(first.strategy), answer(rungs, first.strategy)),)  # type: ignore[union-attr]
    state = SearchState.of(rungs, trials, FULL, TimeToEnd(1000))
    best = trials[0].outcome.tokens_per_s
    left = expectations(state, state.histories)
    kept = payoffs(left, best, TimeToEnd(1000), state)
    assert {payoff.of for payoff in kept} == {one for one in left if one.bound > best and one.chance > 0.02}


def test_noise_of_a_measured_speed_leaves_room_above_it_for_what_does_no_less() -> None:
    """Unless a proof is looked for, which is about what was measured."""
    rungs = sim.ladder(FULL)
    known = replace(answer(rungs, rungs.steps[0].strategies[0]), speed_error=0.04)
    trials = (Trial(rungs.steps[0].strategies[0], rungs.estimate(rungs.steps[0].strategies[0]), known),)
    caps = {}
    for goal in (TimeToEnd(100_000), sim.CERTAIN):
        state = SearchState.of(rungs, trials, FULL, goal)
        caps[goal] = min(cap(one, state) for step in rungs.steps for one in step.strategies)
    assert caps[sim.CERTAIN] == known.tokens_per_s
    assert caps[TimeToEnd(100_000)] == pytest.approx(known.tokens_per_s * math.exp(2 * 0.04))


def test_a_choice_says_for_how_long_a_training_it_holds() -> None:
    run, rungs = search(FULL, ONE_PROBE), sim.ladder(FULL)
    choice = chosen(run).choice
    assert choice.reach_s is not None
    steps = choice.reach_s * choice.probed.tokens_per_s / rungs.steps[0].estimates[0].speed.tokens_per_step
    assert isinstance(decide(rungs, run.trials, FULL, TimeToEnd(int(0.98 * steps))), Choose)
    assert not isinstance(decide(rungs, run.trials, FULL, TimeToEnd(int(1.02 * steps) + 1)), Choose)
