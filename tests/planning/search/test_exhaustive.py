"""Probing everything, against the same cluster's usual search."""

from __future__ import annotations

from autofit.domain.trial import Choose, Trial
from autofit.planning.search.exhaustive import exhaustive_choice, next_untried
from tests.planning import simulated as sim


def exhausted(seed: int) -> tuple[sim.Setting, sim.Cluster, sim.Run, list[Trial]]:
    """A scene in which something fits, its usual search, and all trials after everything was probed."""
    scene = sim.traced(sim.random_scene(seed, ranks=2))
    cluster = sim.Cluster(scene, sim.ladder(scene), seed, surprise=0.0)
    run = sim.search(scene, cluster.rungs, cluster.probe)
    assert isinstance(run.end, Choose)
    trials = list(run.trials)
    while (strategy := next_untried(cluster.rungs, trials, scene)) is not None:
        trials.append(Trial(strategy, cluster.rungs.estimate(strategy), cluster.probe(strategy)))
    return scene, cluster, run, trials


def test_nothing_that_fits_is_left_out_and_nothing_is_probed_twice() -> None:
    _, cluster, _, trials = exhausted(3)
    tried = [trial.strategy for trial in trials]
    assert len(tried) == len(set(tried))
    assert set(cluster.fitting()) <= set(tried)


def test_the_choice_is_the_fastest_of_all_and_tells_the_regret() -> None:
    scene, cluster, run, trials = exhausted(3)
    assert isinstance(run.end, Choose)
    choice = exhaustive_choice(cluster.rungs, trials, scene, sim.CERTAIN)
    speeds = {trial.strategy: trial.outcome.tokens_per_s for trial in trials if hasattr(trial.outcome, "tokens_per_s")}
    assert choice.measured.tokens_per_s >= speeds[run.end.choice.strategy]
    regret = 1 - run.end.choice.measured.tokens_per_s / choice.measured.tokens_per_s
    assert f"regret {regret:.1%}" in choice.why
    assert f"chose {run.end.choice.strategy} after {run.probe_count}" in choice.why
