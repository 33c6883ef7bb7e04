"""The search on random simulated machines whose truth differs from its estimates, next to other ways to search.

python benchmarks/search_simulation.py [--machines 1000] [--date 2026-11-21]

Prints one JSON object; timed searches run side by side, one a core. A machine is 1 to 64 devices of 16 to 140 GB and a
model of 0.5 to 70 B parameters; its memory, speed and faults are drawn by tests/planning/simulated.py, not as the
search believes. `regret` is 1 - the pick's true tokens/s ÷ those of the fastest strategy that truly fits.
`time to the end` counts the seconds of the probes, too.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from _machine import add_date, header

from autofit.domain.goal import Goal, TimeToEnd
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.ladder import Ladder, Step
from autofit.domain.outcome import Measured, Outcome
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choose, GiveUp
from autofit.planning.plan.fit import fits
from autofit.planning.search.policy import decide

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.planning import simulated as sim

FAULTS = sim.Faults(crashed=0.02, unsupported=0.02, timed_out=0.01)
DEVICE_COUNTS = (1, 2, 4, 8, 64)
LENGTHS_S = {"1 minute": 60, "10 minutes": 600, "1 hour": 3600, "1 day": 86400}  # of a training with the best strategy


@dataclass(frozen=True)
class Result:
    """Of one way to search on one machine; `speed` is 0 when it found nothing."""

    probes: int
    speed: float


@dataclass
class Bench:
    """A machine and a counter of what is tried on it."""

    cluster: sim.Cluster
    probes: int = 0

    def speed(self, strategy: Strategy) -> float:
        """Measured tokens/s; 0 when it does not fit or fails."""
        self.probes += 1
        outcome = self.cluster.probe(strategy)
        is_fitting = isinstance(outcome, Measured) and fits(outcome, self.cluster.scene.device_memory_bytes)
        return outcome.tokens_per_s if is_fitting else 0.0

    def result(self, pick: Strategy | None) -> Result:
        return Result(self.probes, 0.0 if pick is None else self.cluster.tokens_per_s(pick))


def autofit(cluster: sim.Cluster) -> Result:
    run = sim.search(cluster.scene, cluster.rungs, cluster.probe, rehearse=cluster.rehearse)
    if isinstance(run.end, GiveUp):
        return Result(run.probe_count, 0.0)
    assert isinstance(run.end, Choose)
    return Result(run.probe_count, cluster.tokens_per_s(run.end.choice.strategy))


@dataclass(frozen=True)
class TimedSearch:
    """A search to its end: `spent_s` until the choice, `tokens_per_s` its true speed; 0 when it found nothing, or chose
    unprobed what fails."""

    probes: int
    spent_s: float
    tokens_per_s: float
    has_failed: bool = False


def timed_search(cluster: sim.Cluster, goal: Goal) -> TimedSearch:
    """Rehearsals run side by side: the longest of them counts."""
    probes_s, rehearsals_s = [], [0.0]

    def timed(outcome: Outcome, strategy: Strategy, spent_s: list[float]) -> Outcome:
        spent_s.append(cluster.probe_s(strategy, outcome))
        return replace(outcome, total_s=spent_s[-1])

    run = sim.race(
        cluster.scene,
        cluster.rungs,
        lambda probe: timed(cluster.race(probe), probe.strategy, probes_s),
        rehearse=lambda strategy: timed(cluster.rehearse(strategy), strategy, rehearsals_s),
        goal=goal,
    )
    has_failed = isinstance(run.end, Choose) and not cluster.fits(run.end.choice.strategy)
    is_found = isinstance(run.end, Choose) and not has_failed
    speed = cluster.tokens_per_s(run.end.choice.strategy) if is_found else 0.0
    return TimedSearch(run.probe_count, sum(probes_s) + max(rehearsals_s), speed, has_failed)


def ladder_walk(cluster: sim.Cluster) -> Result:
    """What a guide tells people to do: turn on one thing after the other until one row fits, then double the rows."""
    bench = Bench(cluster)
    for step in sorted(cluster.rungs.steps, key=_turned_on):
        best = _doubled(bench, step)
        if best is not None:
            return bench.result(best)
    return bench.result(None)


def random_search(cluster: sim.Cluster, budget: int) -> Result:
    """As many probes as autofit took, at random."""
    bench, draw = Bench(cluster), random.Random(cluster.seed)
    strategies = [strategy for step in cluster.rungs.steps for strategy in step.strategies]
    tried = draw.sample(strategies, min(budget, len(strategies)))
    speeds = {strategy: bench.speed(strategy) for strategy in tried}
    fastest = max(speeds, key=lambda strategy: speeds[strategy], default=None)
    return bench.result(fastest if fastest is not None and speeds[fastest] > 0 else None)


def autotuner_order(cluster: sim.Cluster) -> Result:
    """As DeepSpeed's autotuner goes: stage after stage, micro-batches doubled within each, until a stage is no gain;
    no checkpointing, no LoRA, no offload."""
    bench, best, fastest = Bench(cluster), None, 0.0
    plain = [step for step in cluster.rungs.steps if _turned_on(step)[:3] == (0, False, False)]
    for step in sorted(plain, key=lambda step: step.rung.zero_stage):
        before, found = bench.probes, _doubled(bench, step)
        speed = 0.0 if found is None else cluster.tokens_per_s(found)
        if found is not None and speed <= fastest:
            break
        best, fastest = (found, speed) if found is not None else (best, fastest)
        assert bench.probes > before
    return bench.result(best)


def _turned_on(step: Step) -> tuple[int, bool, bool, int]:
    offload = (Offload.NONE, Offload.OPTIMIZER, Offload.ALL).index(step.rung.offload)
    return offload, step.rung.gradient_checkpointing.recomputes, step.rung.method is Method.LORA, step.rung.zero_stage


def _doubled(bench: Bench, step: Step) -> Strategy | None:
    """The fastest of the micro-batches up to the first that fails."""
    best, fastest = None, 0.0
    for strategy in step.strategies:
        speed = bench.speed(strategy)
        if speed == 0.0:
            break
        if speed > fastest:
            best, fastest = strategy, speed
    return best


def machines(count: int, method: Method | None) -> Iterator[sim.Cluster]:
    return (machine(seed, method) for seed in range(count))


def machine(seed: int, method: Method | None) -> sim.Cluster:
    ranks = DEVICE_COUNTS[seed % len(DEVICE_COUNTS)]
    scene = sim.random_scene(seed, ranks=ranks, method=method)
    scene = replace(sim.traced(scene), rehearsal_count=min(ranks, 8))
    return sim.Cluster(scene, sim.ladder(scene), seed, FAULTS)


def compare(count: int, method: Method | None) -> dict[str, object]:
    """Every way on the same machines; the ones on which nothing fits are counted apart."""
    regrets: dict[str, list[float]] = {}
    probes: dict[str, list[int]] = {}
    nothing: dict[str, int] = {}
    hopeless = 0
    for cluster in machines(count, method):
        best = cluster.best_tokens_per_s()
        ours = autofit(cluster)
        if best == 0:
            hopeless += 1
            continue
        rivals = {
            "autofit": ours,
            "ladder walk": ladder_walk(cluster),
            "random, as many probes": random_search(cluster, ours.probes),
        }
        if method is Method.FULL:
            rivals["autotuner's order"] = autotuner_order(cluster)
        for name, result in rivals.items():
            probes.setdefault(name, []).append(result.probes)
            nothing[name] = nothing.get(name, 0) + (result.speed == 0)
            if result.speed > 0:
                regrets.setdefault(name, []).append(1 - result.speed / best)
    return {
        "machines": count,
        "nothing fits": hopeless,
        "ways": {name: _summary(regrets.get(name, [1.0]), probes[name], nothing[name]) for name in probes},
    }


def _summary(regrets: list[float], probes: list[int], nothing: int) -> dict[str, object]:
    ordered = sorted(regrets)
    return {
        "mean regret": round(statistics.mean(ordered), 4),
        "median regret": round(statistics.median(ordered), 4),
        "95th percentile regret": round(ordered[int(0.95 * (len(ordered) - 1))], 4),
        "median probes": statistics.median(probes),
        "mean probes": round(statistics.mean(probes), 1),
        "most probes": max(probes),
        "wrong 'nothing fits'": nothing,
    }


def compare_times(count: int, method: Method | None) -> dict[str, object]:
    """For each length of a training the time to its end ÷ that of who knows the best beforehand and searches nothing:
    of the search, and of one that goes on until nothing left can be faster by 1 %."""
    searches: dict[str, dict[str, list[TimedSearch]]] = {name: {"autofit": [], "until 1 %": []} for name in LENGTHS_S}
    best_s: dict[str, list[tuple[float, float]]] = {name: [] for name in LENGTHS_S}
    with ProcessPoolExecutor() as pool:
        for found in pool.map(_timed_lengths, range(count), [method] * count, chunksize=4):
            for name, (certain, ours, best, tokens) in found.items():
                best_s[name].append((best, tokens))
                searches[name]["until 1 %"].append(certain)
                searches[name]["autofit"].append(ours)
    return {name: {way: _times(found, best_s[name]) for way, found in ways.items()} for name, ways in searches.items()}


def _timed_lengths(seed: int, method: Method | None) -> dict[str, tuple[TimedSearch, TimedSearch, float, float]]:
    """Of one machine, for each length: the search that goes on, the usual one, the best speed and the tokens; nothing
    where nothing fits."""
    cluster = machine(seed, method)
    best = cluster.best_tokens_per_s()
    if best == 0:
        return {}
    certain = timed_search(cluster, sim.CERTAIN)
    tokens_per_step = cluster.rungs.steps[0].estimates[0].speed.tokens_per_step
    found = {}
    for name, length_s in LENGTHS_S.items():
        steps = max(1, round(length_s * best / tokens_per_step))
        found[name] = certain, timed_search(cluster, TimeToEnd(steps)), best, steps * tokens_per_step
    return found


def _times(found: list[TimedSearch], best: list[tuple[float, float]]) -> dict[str, object]:
    pairs = list(zip(found, best, strict=True))
    ended = [(one, tokens / speed, tokens) for one, (speed, tokens) in pairs if one.tokens_per_s > 0]
    ratios = sorted((one.spent_s + tokens / one.tokens_per_s) / best_s for one, best_s, tokens in ended)
    return {
        "median time to the end": round(statistics.median(ratios), 4),
        "95th percentile": round(ratios[int(0.95 * (len(ratios) - 1))], 4),
        "median search_s": round(statistics.median(one.spent_s for one in found), 1),
        "mean probes": round(statistics.mean(one.probes for one in found), 1),
        "wrong 'nothing fits'": sum(one.tokens_per_s == 0 and not one.has_failed for one in found),
        "chosen unprobed": sum(one.probes == 0 and one.tokens_per_s > 0 for one in found),
        "of them failed at the start": sum(one.has_failed for one in found),
    }


def planning_times() -> list[dict[str, object]]:
    """Seconds for the ladder with its estimates and for the first decision, by the number of devices."""
    return [_planning_time(count) for count in (1, 4, 16, 64, 256, 1024)]


def _planning_time(count: int) -> dict[str, object]:
    scene = sim.traced(sim.setting(sim.hardware(count, 80), global_batch=8 * count))
    ladder_s, ladder = _timed(lambda: sim.ladder(scene))
    decide_s, _ = _timed(lambda: decide(ladder, (), scene, sim.CERTAIN))
    strategies = sum(len(step.strategies) for step in ladder.steps)
    return {"devices": count, "strategies": strategies, "ladder_s": round(ladder_s, 4), "decide_s": round(decide_s, 4)}


def _timed(work: Callable[[], object]) -> tuple[float, Ladder]:
    began_at_s = time.perf_counter()
    value = work()
    return time.perf_counter() - began_at_s, value  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=1000, help="of each kind of request")
    add_date(parser)
    options = parser.parse_args()
    result = {
        **header("search simulation", options.date),
        "all parameters or LoRA": compare(options.machines, None),
        "all parameters": compare(options.machines, Method.FULL),
        "time to the end, all parameters or LoRA": compare_times(options.machines, None),
        "time to the end, all parameters": compare_times(options.machines, Method.FULL),
        "planning": planning_times(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
