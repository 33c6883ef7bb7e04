"""Strategies that lie closer together than their probes can tell are measured once more where that pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from autofit.domain.goal import Goal, TimeToEnd
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Measured, Outcome, Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choose, Probe, Trial
from autofit.planning.probe_steps import MEASURE_S
from autofit.planning.search.finalists import LONGER, MOST_LOOKS
from autofit.planning.search.policy import decide
from tests.planning import simulated as sim

SMALL = replace(sim.LLAMA_7B, parameter_count=1_000_000_000)
SCENE = sim.traced(sim.setting(sim.hardware(2, 80), SMALL, pins=Pins(method=Method.FULL)))
LADDER = sim.ladder(SCENE)
STRATEGIES = [strategy for step in LADDER.steps for strategy in step.strategies]
FIRST, SECOND, *OTHERS = STRATEGIES
SPEED = 10_000.0  # tokens/s
LONG, SHORT = TimeToEnd(100_000), TimeToEnd(20)


def seen(tokens_per_s: float, error: float = 0.02) -> Measured:
    """Of steps that differ so much that their mean is known to `error`."""
    return replace(sim.measured(tokens_per_s), speed_error=error, step_count=12, total_s=8.0)


def trials(first: Measured, second: Measured) -> list[Trial]:
    """Everything was probed, and two are ahead."""
    others = [Trial(one, LADDER.estimate(one), seen(SPEED / 4)) for one in OTHERS]
    return [*others, trial(FIRST, first), trial(SECOND, second)]


def trial(strategy: Strategy, outcome: Outcome) -> Trial:
    return Trial(strategy, LADDER.estimate(strategy), outcome)


def looks(known: Sequence[Trial], goal: Goal = LONG, *, tokens_per_s: dict[Strategy, float]) -> list[Probe]:
    """The probes that follow, each of which sees what is true."""
    asked, known = list[Probe](), list(known)
    while isinstance(action := decide(LADDER, known, SCENE, goal), Probe):
        asked.append(action)
        known.append(trial(action.strategy, seen(tokens_per_s[action.strategy], 0.01)))
        assert len(asked) < 2 * MOST_LOOKS
    assert isinstance(action, Choose)
    assert action.choice.strategy == max(tokens_per_s, key=lambda one: tokens_per_s[one])
    return asked


def test_two_that_noise_does_not_tell_apart_are_measured_longer_where_the_training_is_long() -> None:
    first = decide(LADDER, trials(seen(SPEED), seen(1.01 * SPEED)), SCENE, LONG)
    assert isinstance(first, Probe)
    assert first.strategy in (FIRST, SECOND)
    assert first.why.startswith("once more: it costs ")
    assert first.measure_s == LONGER * MEASURE_S
    assert first.least_tokens_per_s is None, "it is to be known better, not to be stopped"


def test_the_truth_wins_over_a_first_look_that_was_wrong() -> None:
    known = trials(seen(SPEED), seen(1.01 * SPEED))
    asked = looks(known, tokens_per_s={FIRST: 1.03 * SPEED, SECOND: 0.98 * SPEED})
    assert 1 <= len(asked) <= 2 * (MOST_LOOKS - 1)


def test_each_look_is_longer_and_there_are_few() -> None:
    """Of two that are equal: no number of looks would tell."""
    asked = looks(trials(seen(SPEED), seen(SPEED)), tokens_per_s={FIRST: SPEED, SECOND: SPEED * 0.9999})
    for strategy in (FIRST, SECOND):
        lengths = [one.measure_s for one in asked if one.strategy == strategy]
        assert lengths == [MEASURE_S * LONGER**number for number in range(1, len(lengths) + 1)]
        assert len(lengths) < MOST_LOOKS


@pytest.mark.parametrize(
    ("second", "goal"),
    [(seen(1.01 * SPEED), SHORT), (seen(1.01 * SPEED), sim.CERTAIN), (seen(1.2 * SPEED), LONG)],
    ids=["a short training", "a search for a proof", "no doubt"],
)
def test_nothing_is_measured_again_that_does_not_pay(second: Measured, goal: Goal) -> None:
    end = decide(LADDER, trials(seen(SPEED), second), SCENE, goal)
    assert isinstance(end, Choose)
    assert end.choice.strategy == SECOND


def test_the_choice_tells_what_all_looks_say_together() -> None:
    known = [*trials(seen(SPEED), seen(1.3 * SPEED, 0.02)), trial(SECOND, seen(1.2 * SPEED, 0.01))]
    end = decide(LADDER, known, SCENE, LONG)
    assert isinstance(end, Choose)
    assert end.choice.measured is not None
    assert end.choice.measured.tokens_per_s == pytest.approx(SPEED * (1.3 + 4 * 1.2) / 5)
    assert end.choice.measured.step_count == 24


def test_one_that_does_not_fit_at_a_second_look_is_not_chosen() -> None:
    known = [*trials(seen(SPEED), seen(1.3 * SPEED)), trial(SECOND, sim.out_of_memory(Phase.STEP))]
    end = decide(LADDER, known, SCENE, SHORT)
    assert isinstance(end, Choose)
    assert end.choice.strategy == FIRST


def test_a_choice_holds_only_for_trainings_that_a_second_look_would_not_pay_for() -> None:
    close, apart = (decide(LADDER, trials(seen(SPEED), seen(times * SPEED)), SCENE, SHORT) for times in (1.01, 1.2))
    assert isinstance(close, Choose)
    assert isinstance(apart, Choose)
    assert close.choice.reach_s is not None
    assert 0 < close.choice.reach_s < 3600
    assert apart.choice.reach_s is None or apart.choice.reach_s > 1e6
