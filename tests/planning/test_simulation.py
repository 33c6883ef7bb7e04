"""The search on random machines whose truth differs from the estimates."""

from __future__ import annotations

from statistics import mean, median

import pytest

from autofit.domain.knobs.method import Method
from autofit.domain.trial import Choose, GiveUp
from tests.planning import simulated as sim
from tests.spread import with_matrix

pytestmark = pytest.mark.slow
CASES = 16
SOUND = sim.Faults()
FAULTY = sim.Faults(crashed=0.03, unsupported=0.03, timed_out=0.03)


@pytest.mark.parametrize(
    ("ranks", "faults"),
    with_matrix([(None, SOUND), (1, FAULTY), (2, FAULTY)], [(1, SOUND), (2, SOUND), (None, FAULTY)]),
)
def test_it_ends_near_the_exhaustive_best(
    ranks: int | None, faults: sim.Faults, record_property: pytest.RecordProperty
) -> None:
    regrets, counts = [], []
    for seed in range(CASES):
        scene = sim.random_scene(seed, ranks=ranks)
        cluster = sim.Cluster(scene, sim.ladder(scene), seed, faults)
        run = sim.search(scene, cluster.rungs, cluster.probe)
        best = cluster.best_tokens_per_s()
        if isinstance(run.end, GiveUp):
            assert best == 0, f"seed {seed}: something fits, but it gave up: {run.end.why}"
            continue
        check_the_global_batch(run, scene)
        check_the_full_rung(run.end, cluster)
        regrets.append(1 - cluster.tokens_per_s(run.end.choice.strategy) / best)
        counts.append(run.probe_count)
    counts.sort()
    figures = {"regret": mean(regrets), "probes": median(counts), "most probes": counts[-1]}
    print(figures)
    record_property("simulation", str(figures))
    assert mean(regrets) < 0.02
    assert median(regrets) < 0.005
    assert median(counts) <= 10


def check_the_global_batch(run: sim.Run, scene: sim.Setting) -> None:
    for trial in run.trials:
        strategy = trial.strategy
        rows = strategy.micro_batch * strategy.gradient_accumulation * scene.rank_count
        assert rows == scene.request.global_batch


def check_the_full_rung(end: Choose, cluster: sim.Cluster) -> None:
    is_lora = end.choice.strategy.rung.method is Method.LORA
    if is_lora and cluster.best_tokens_per_s(Method.FULL) > 0:
        assert end.choice.plain is not None, "a full-parameter rung fits and is not named"
