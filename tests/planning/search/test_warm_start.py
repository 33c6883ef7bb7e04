"""The second search of a cluster that is as remembered, and of one that has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from statistics import mean, median

import pytest

from autofit.domain.goal import TimeToEnd
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Crashed, DiskFull, Measured, Outcome, Phase, Place, TimedOut, Unsupported
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choose, GiveUp, Probe, Trial
from autofit.planning.search.warm_start import decide_with_warm_start, is_contradicted
from tests.planning import simulated as sim

CASES = 10


def search_again(
    cluster: sim.Cluster, remembered: tuple[Trial, ...], probe: Callable[[Strategy], Outcome] | None = None
) -> sim.Run:
    """`decide_with_warm_start` in a loop, to its end."""
    trials: list[Trial] = []
    ladder = cluster.rungs
    while isinstance(action := decide_with_warm_start(ladder, remembered, trials, cluster.scene, sim.CERTAIN), Probe):
        assert len(trials) < 400, "the search does not end"
        outcome = (probe or cluster.probe)(action.strategy)
        trials.append(Trial(action.strategy, ladder.estimate(action.strategy), outcome))
    assert isinstance(action, (Choose, GiveUp))
    return sim.Run(tuple(trials), action)


def clusters() -> list[sim.Cluster]:
    scenes = [(seed, sim.random_scene(seed)) for seed in range(CASES)]
    return [sim.Cluster(scene, sim.ladder(scene), seed) for seed, scene in scenes]


def first_search(cluster: sim.Cluster) -> sim.Run:
    return sim.search(cluster.scene, cluster.rungs, cluster.probe)


@cache
def searched() -> list[tuple[sim.Cluster, sim.Run]]:
    """Those where something fits."""
    runs = [(cluster, first_search(cluster)) for cluster in clusters()]
    fitting = [(cluster, run) for cluster, run in runs if isinstance(run.end, Choose)]
    assert len(fitting) > 4
    return fitting


def with_less_memory(machine: Hardware, share: float) -> Hardware:
    def smaller(size: int) -> int:
        return round(size * share)

    nodes = tuple(
        replace(node, devices=tuple(replace(d, memory_free_bytes=smaller(d.memory_free_bytes)) for d in node.devices))
        for node in machine.nodes
    )
    return replace(machine, nodes=nodes)


def chosen(run: sim.Run) -> Strategy:
    assert isinstance(run.end, Choose)
    return run.end.choice.strategy


def test_the_same_cluster_takes_one_probe_and_the_same_choice() -> None:
    for cluster, first in searched():
        again = search_again(cluster, first.trials)
        assert again.probe_count == 1
        assert chosen(again) == chosen(first)
        assert isinstance(again.end, Choose)
        assert "of earlier runs" in again.end.choice.why


def test_a_little_noise_takes_no_further_probe() -> None:
    for cluster, first in searched():
        for gain in (0.92, 1.08):
            again = search_again(
                cluster, first.trials, lambda strategy, g=gain, c=cluster: faster(c.probe(strategy), g)
            )
            assert again.probe_count == 1
            assert chosen(again) == chosen(first)


def faster(outcome: Outcome, gain: float) -> Outcome:
    return replace(outcome, tokens_per_s=outcome.tokens_per_s * gain) if isinstance(outcome, Measured) else outcome


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_less_memory_still_ends_near_the_best(share: float) -> None:
    regrets = []
    for cluster, first in searched():
        scene = replace(cluster.scene, hardware=with_less_memory(cluster.scene.hardware, share))
        smaller = sim.Cluster(scene, sim.ladder(scene), cluster.seed)
        again = search_again(smaller, first.trials)
        best = smaller.best_tokens_per_s()
        if isinstance(again.end, GiveUp):
            assert best == 0
            continue
        assert smaller.fits(chosen(again))
        regrets.append(1 - smaller.tokens_per_s(chosen(again)) / best)
    print(mean(regrets), max(regrets))
    assert len(regrets) > 4
    assert mean(regrets) < 0.02


def test_other_speeds_still_end_near_the_best() -> None:
    regrets, more = [], []
    for cluster, first in searched():
        other = sim.Cluster(cluster.scene, cluster.rungs, cluster.seed + 1000)
        again = search_again(other, first.trials)
        best = other.best_tokens_per_s()
        if isinstance(again.end, GiveUp):
            assert best == 0
            continue
        assert other.fits(chosen(again))
        regrets.append(1 - other.tokens_per_s(chosen(again)) / best)
        more.append(again.probe_count - first_search(other).probe_count)
    print(mean(regrets), max(regrets), more)
    assert len(regrets) > 4
    assert mean(regrets) < 0.03
    assert median(more) <= 1, "one probe is what a wrong memory may cost"


def one_cluster() -> sim.Cluster:
    scene = sim.setting()
    return sim.Cluster(scene, sim.ladder(scene), 3)


def test_it_never_gives_up_on_what_is_remembered_alone() -> None:
    cluster = one_cluster()
    everywhere = tuple(
        Trial(strategy, cluster.rungs.estimate(strategy), sim.out_of_memory())
        for step in cluster.rungs.steps
        for strategy in step.strategies
    )
    again = search_again(cluster, everywhere)
    assert cluster.tokens_per_s(chosen(again)) > 0.97 * cluster.best_tokens_per_s()


@pytest.mark.parametrize(
    "outcome",
    [
        Crashed(0, Phase.STEP, "boom"),
        Unsupported("no compiler"),
        TimedOut(0, Phase.STEP, 600.0),
        DiskFull(0, Phase.SAVE, "no space left"),
        sim.out_of_memory(place=Place.SHARED),
    ],
)
def test_what_broke_is_tried_again(outcome: Outcome) -> None:
    cluster = one_cluster()
    first = first_search(cluster)
    broken = Trial(chosen(first), cluster.rungs.estimate(chosen(first)), outcome)
    others = tuple(trial for trial in first.trials if trial.strategy != chosen(first))
    assert chosen(search_again(cluster, (*others, broken))) == chosen(first)


def test_a_rung_that_is_remembered_as_too_large_is_skipped() -> None:
    cluster = one_cluster()
    first = first_search(cluster)
    best = chosen(first)
    is_too_large = tuple(
        Trial(trial.strategy, trial.estimate, sim.out_of_memory()) if trial.strategy.rung == best.rung else trial
        for trial in first.trials
    )
    again = search_again(cluster, is_too_large)
    assert again.trials
    assert best.rung not in {trial.strategy.rung for trial in again.trials}


def test_a_confirmation_that_fails_starts_anew() -> None:
    cluster = one_cluster()
    first = first_search(cluster)
    scene = replace(cluster.scene, hardware=with_less_memory(cluster.scene.hardware, 0.3))
    smaller = sim.Cluster(scene, sim.ladder(scene), cluster.seed)
    lies = tuple(replace(trial, outcome=with_peak(trial.outcome, sim.GB)) for trial in first.trials)
    again = search_again(smaller, lies)
    assert is_contradicted(lies, again.trials, scene.device_memory_bytes)
    assert smaller.fits(chosen(again))


def with_peak(outcome: Outcome, peak_bytes: int) -> Outcome:
    return replace(outcome, peak_device_bytes=peak_bytes) if isinstance(outcome, Measured) else outcome


@pytest.mark.parametrize(("gain", "is_other"), [(0.95, False), (1.05, False), (0.85, True), (1.15, True)])
def test_speeds_agree_within_a_tenth(gain: float, is_other: bool) -> None:
    cluster = one_cluster()
    strategy = cluster.rungs.steps[0].strategies[0]
    estimate = cluster.rungs.estimate(strategy)
    then, now = (Trial(strategy, estimate, sim.measured(1000 * factor)) for factor in (1.0, gain))
    assert is_contradicted((then,), (now,), 80 * sim.GB) is is_other
    assert not is_contradicted((then,), (replace(now, is_rehearsal=True),), 80 * sim.GB)


def test_the_fastest_of_earlier_runs_is_confirmed_only_where_that_pays() -> None:
    cluster, run = searched()[0]
    speeds = {trial.strategy: trial.outcome.tokens_per_s for trial in run.trials if isinstance(trial.outcome, Measured)}
    fastest, slower = (end(speeds, key=speeds.__getitem__) for end in (max, min))
    assert fastest != slower
    today = [trial for trial in run.trials if trial.strategy == slower and isinstance(trial.outcome, Measured)][:1]
    trials = [replace(today[0], outcome=replace(today[0].outcome, total_s=20.0))]
    short, long = (
        decide_with_warm_start(cluster.rungs, run.trials, trials, cluster.scene, TimeToEnd(steps))
        for steps in (1, 1_000_000)
    )
    assert isinstance(short, Choose)
    assert short.choice.strategy == slower
    assert short.choice.why.startswith(f"to confirm {fastest}, the fastest of earlier runs, would cost")
    assert isinstance(long, Probe)


SMALL = replace(sim.LLAMA_7B, parameter_count=1_000_000_000)
ROOMY = sim.traced(sim.setting(sim.hardware(2, 80), SMALL, pins=Pins(method=Method.FULL)))


@pytest.mark.parametrize(("step_count", "is_confirmed"), [(40, False), (100_000, True), (None, True)])
def test_what_is_remembered_is_confirmed_where_that_is_cheap_beside_the_training(
    step_count: int | None, is_confirmed: bool
) -> None:
    ladder, goal = sim.ladder(ROOMY), TimeToEnd(step_count)
    remembered = tuple(
        Trial(one, estimate, sim.measured(estimate.speed.tokens_per_s, micro_batch=one.micro_batch))
        for step in ladder.steps
        for one, estimate in zip(step.strategies, step.estimates, strict=True)
    )
    action = decide_with_warm_start(ladder, remembered, (), ROOMY, goal)
    if is_confirmed:
        assert isinstance(action, Probe)
        return
    assert isinstance(action, Choose)
    assert action.choice.is_unseen
    assert f"{len(remembered)} trials of earlier runs, to confirm it would cost" in action.choice.why
    failed = Trial(action.choice.strategy, ladder.estimate(action.choice.strategy), sim.out_of_memory())
    after = decide_with_warm_start(ladder, remembered, (failed,), ROOMY, goal)
    assert isinstance(after, (Probe, Choose))
    strategy = after.strategy if isinstance(after, Probe) else after.choice.strategy
    assert strategy != action.choice.strategy
