"""What is looked for decides what is chosen, and what the certificate says."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest

from autofit.domain.efficiency import Efficiency
from autofit.domain.energy import Energy
from autofit.domain.errors import UsageError
from autofit.domain.goal import AN_HOUR, TimeToEnd
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.objective import Objective
from autofit.domain.outcome import Measured, Outcome
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choice, Choose, Probe, Trial
from autofit.planning.plan.baseline import measured_cost
from autofit.planning.search.exhaustive import exhaustive_choice
from autofit.planning.search.expected_improvement import expectations
from autofit.planning.search.policy import decide
from autofit.planning.search.rating import check_ladder
from autofit.planning.search.search_state import SearchState
from autofit.planning.search.warm_start import decide_with_warm_start
from autofit.planning.setting import Setting
from tests.planning import simulated as sim

GB = sim.GB
PINS = Pins(method=Method.FULL, gradient_checkpointing=GradientCheckpointing.OFF, offload=Offload.NONE, micro_batch=1)
SMALL = replace(sim.LLAMA_7B, parameter_count=1_000_000_000)
FOUR = sim.setting(sim.hardware(4, 80), SMALL, pins=PINS)

# Tokens/s, peak and joules a token: each stage is the best in something.
RECORDED = {
    "zero0": (10_000.0, 60 * GB, 0.100),
    "zero1": (11_000.0, 40 * GB, 0.090),
    "zero2": (10_500.0, 32 * GB, 0.080),
    "zero3": (6_000.0, 20 * GB, 0.095),
}
RIVAL = {"zero0": (10_000.0, 60 * GB, 0.1), "zero1": (9_000.0, 31.9 * GB, 0.2), "zero2": (9_500.0, 32 * GB, 0.2)}


def looking_for(objective: Objective, scene: Setting = FOUR, baseline: str | None = None) -> Setting:
    return replace(scene, request=replace(scene.request, objective=objective, baseline=baseline))


def outcome_of(tokens_per_s: float, peak_bytes: float, token_j: float | None) -> Measured:
    energy = None if token_j is None else Energy(token_j, None)
    return replace(sim.measured(tokens_per_s, round(peak_bytes)), energy=energy)


def trials_of(scene: Setting, recorded: Mapping[str, tuple[float, float, float | None]] = RECORDED) -> list[Trial]:
    rungs = sim.ladder(scene)
    return [
        Trial(strategy, rungs.estimate(strategy), outcome_of(*recorded[str(step.rung)]))
        for step in rungs.steps
        for strategy in step.strategies
        if str(step.rung) in recorded
    ]


def chosen(scene: Setting, trials: list[Trial]) -> Choice:
    action = decide(sim.ladder(scene), trials, scene)
    assert isinstance(action, Choose)
    return action.choice


@pytest.mark.parametrize(
    ("objective", "name", "beginning"),
    [
        (Objective.SPEED, "zero1", "every rung"),
        (Objective.MEMORY, "zero3", "the least peak memory: every rung"),
        (Objective.ENERGY, "zero2", "the least energy: every rung"),
        (Objective.BALANCED, "zero2", "the greatest product of SpeedUp, MemoryUp and EnergyUp: every rung"),
    ],
)
def test_the_same_trials_choose_by_what_is_looked_for(objective: Objective, name: str, beginning: str) -> None:
    scene = looking_for(objective)

    choice = chosen(scene, trials_of(scene))

    assert str(choice.strategy.rung) == name
    assert choice.why.startswith(beginning)


def test_without_a_counter_what_is_balanced_is_speed_and_memory() -> None:
    scene = looking_for(Objective.BALANCED)
    uncounted = {name: (speed, peak, None) for name, (speed, peak, _) in RECORDED.items()}
    uncounted["zero3"] = (7_000.0, 20 * GB, None)

    choice = chosen(scene, trials_of(scene, uncounted))

    assert str(choice.strategy.rung) == "zero3"
    assert choice.why.startswith("the greatest product of SpeedUp and MemoryUp: ")


def test_of_peaks_that_hardly_differ_the_fastest_is_taken() -> None:
    scene = looking_for(Objective.MEMORY)

    choice = chosen(scene, [*trials_of(scene, RIVAL), *trials_of(scene, {"zero3": (100.0, 40 * GB, 0.2)})])

    assert str(choice.strategy.rung) == "zero2"


def test_a_probe_that_did_not_count_its_energy_is_taken_to_have_the_power_of_the_others() -> None:
    """At 900 W, as the others have, it takes 0.075 J."""
    scene = looking_for(Objective.ENERGY)
    recorded = {name: (speed, peak, 900 / speed) for name, (speed, peak, _) in RECORDED.items()}
    recorded["zero0"] = (12_000.0, 60 * GB, None)

    choice = chosen(scene, trials_of(scene, recorded))

    assert str(choice.strategy.rung) == "zero0"
    assert "the power of the other probes" in choice.why


@pytest.mark.parametrize("objective", [one for one in Objective if one is not Objective.SPEED])
def test_one_step_ends_no_probe_that_is_not_about_speed(objective: Objective) -> None:
    scene = looking_for(objective)

    action = decide(sim.ladder(scene), trials_of(scene, {"zero1": RECORDED["zero1"]}), scene)

    assert isinstance(action, Probe)
    assert action.least_tokens_per_s is None


@pytest.mark.parametrize("goal", [AN_HOUR, TimeToEnd(10)])
def test_a_search_for_memory_weighs_no_time(goal: TimeToEnd) -> None:
    """A training of ten steps is worth a probe, too: only that tells the peak."""
    scene = looking_for(Objective.MEMORY, sim.setting(sim.hardware(2, 40), SMALL))

    action = decide(sim.ladder(scene), (), scene, goal)

    assert isinstance(action, Probe)
    assert action.why == "least predicted memory"


def test_the_ladder_for_memory_has_what_is_of_no_use_for_speed() -> None:
    """Checkpoints in host memory need less than those on the device, which fit."""
    scene = sim.traced(sim.setting(sim.hardware(2, 80), SMALL))
    names = {
        objective: {str(step.rung) for step in sim.ladder(looking_for(objective, scene)).steps}
        for objective in Objective
    }

    assert "zero3+lora+gc-offload+offload-all" in names[Objective.MEMORY] & names[Objective.BALANCED]
    assert "zero3+lora+gc-offload+offload-all" not in names[Objective.SPEED] | names[Objective.ENERGY]


def test_what_certainly_needs_no_less_than_a_measured_one_is_bounded_by_it() -> None:
    scene = looking_for(Objective.MEMORY)
    search = SearchState.of(sim.ladder(scene), trials_of(scene, {"zero2": RECORDED["zero2"]}), scene)

    bounds = {str(one.strategy.rung): one.bound for one in expectations(search, search.histories)}

    assert bounds["zero1"] == 1 / (32 * GB)
    assert bounds["zero3"] > 1 / (32 * GB)


def test_exhaustive_tells_the_regret_in_what_is_looked_for() -> None:
    scene = looking_for(Objective.MEMORY)
    trials = sorted(trials_of(scene), key=lambda trial: trial.outcome != outcome_of(*RECORDED["zero3"]))

    choice = exhaustive_choice(sim.ladder(scene), trials, scene, sim.CERTAIN)

    assert str(choice.strategy.rung) == "zero3"
    assert "the search alone chose zero3 mb1" in choice.why
    assert choice.why.endswith("regret 0.0%")


def test_what_earlier_runs_measured_for_speed_serves_a_search_for_memory() -> None:
    scene = looking_for(Objective.MEMORY)

    action = decide_with_warm_start(sim.ladder(scene), trials_of(scene), (), scene)

    assert isinstance(action, Probe)
    assert str(action.strategy.rung) == "zero3"


@pytest.mark.parametrize(
    ("probed", "named", "name", "is_measured"),
    [
        (("zero0", "zero1", "zero2", "zero3"), None, "zero0", True),
        (("zero1", "zero2", "zero3"), None, "zero0", False),
        (("zero0", "zero1", "zero2", "zero3"), "zero2", "zero2", True),
    ],
)
def test_ratios_are_of_the_plainest_measured_or_believed(
    probed: tuple[str, ...], named: str | None, name: str, is_measured: bool
) -> None:
    scene = looking_for(Objective.MEMORY, baseline=named)

    choice = chosen(scene, trials_of(scene, {name: RECORDED[name] for name in probed}))

    assert choice.baseline is not None
    assert str(choice.baseline.strategy.rung) == name
    assert choice.baseline.cost.is_measured is is_measured


def test_ratios_of_what_is_chosen() -> None:
    scene = looking_for(Objective.MEMORY)

    choice = chosen(scene, trials_of(scene))

    assert choice.baseline is not None
    ratios = Efficiency.of(measured_cost(choice.probed, scene.kind), choice.baseline.cost)
    assert (ratios.speed_up, ratios.memory_up) == (pytest.approx(0.6), pytest.approx(3.0))
    assert ratios.energy_up == pytest.approx(0.1 / 0.095)


def test_a_baseline_that_is_too_large_is_what_is_believed_of_it() -> None:
    tight = replace(FOUR, hardware=sim.hardware(4, 14))
    rungs = sim.ladder(tight)
    assert "zero0" in {str(out.rung) for out in rungs.left_out}
    trials = trials_of(tight, {str(step.rung): (9_000.0, 10 * GB, None) for step in rungs.steps})

    named = chosen(looking_for(Objective.SPEED, tight, "zero0"), trials).baseline
    plainest = chosen(tight, trials).baseline

    assert named is not None
    assert plainest is not None
    assert str(named.strategy.rung) == "zero0"
    assert not named.fits
    assert not named.cost.is_measured
    assert plainest.fits
    assert str(plainest.strategy.rung) == min(str(step.rung) for step in rungs.steps)


def test_a_baseline_that_is_none_is_refused_before_anything_is_probed() -> None:
    scene = looking_for(Objective.SPEED, baseline="zero7")

    with pytest.raises(UsageError, match=r"--baseline zero7 is no strategy of this request; there are zero0, zero1, "):
        check_ladder(sim.ladder(scene), scene)


@pytest.mark.parametrize("objective", [one for one in Objective if one is not Objective.SPEED])
def test_a_simulated_machine_is_searched_to_the_bound_of_its_certificate(objective: Objective) -> None:
    for seed in (1, 2, 5):
        scene = looking_for(objective, sim.random_scene(seed))
        cluster = sim.Cluster(scene, sim.ladder(scene), seed)

        run = sim.search(scene, cluster.rungs, partial(_counted, cluster))

        assert isinstance(run.end, Choose)
        assert "nothing left can" in run.end.choice.why
        best = max(_merit(objective, strategy, cluster) for strategy in cluster.fitting())
        assert _merit(objective, run.end.choice.strategy, cluster) >= 0.97 * best


def _counted(cluster: sim.Cluster, strategy: Strategy) -> Outcome:
    outcome = cluster.probe(strategy)
    if not isinstance(outcome, Measured):
        return outcome
    return replace(outcome, energy=Energy(_power_w(cluster, strategy) / outcome.tokens_per_s, None))


def _power_w(cluster: sim.Cluster, strategy: Strategy) -> float:
    waiting = random.Random(f"{cluster.seed} power {strategy.rung.offload} {strategy.rung.zero_stage}").uniform(0.8, 1)
    return 300 * cluster.scene.rank_count * waiting * (1 - 0.15 / strategy.micro_batch)


def _merit(objective: Objective, strategy: Strategy, cluster: sim.Cluster) -> float:
    speed, peak_bytes = cluster.tokens_per_s(strategy), cluster.peak_bytes(strategy)
    tokens_per_j = speed / _power_w(cluster, strategy)
    if objective is Objective.MEMORY:
        return 1 / peak_bytes
    return tokens_per_j if objective is Objective.ENERGY else speed / peak_bytes * tokens_per_j
