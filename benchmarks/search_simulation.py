"""The search on random simulated machines whose truth differs from its estimates, next to other ways to search.

python benchmarks/search_simulation.py [--machines 1000] [--allow lomo,nf4] [--date 2026-11-21]

Prints one JSON object; searches run side by side, one a core. Each machine is searched in the `plain` space, whose
checkpointing and offload are on or off as a whole, in the `larger` one, which has all that is tried unasked, and with
`--allow` in one that has those values as well. A machine is 1 to 64 devices of 16 to 140 GB and a
model of 0.5 to 70 B parameters; its memory, speed and faults are drawn by tests/planning/simulated.py, not as the
search believes. `regret` is 1 - the pick's true tokens/s ÷ those of the fastest strategy that truly fits.
`time to the end` counts the seconds of the probes, too; the training is the same in every space.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from _machine import add_date, header

from autofit.domain.goal import Goal, TimeToEnd
from autofit.domain.knobs.allowance import check_allowed
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import OFFLOAD
from autofit.domain.ladder import Ladder, Step
from autofit.domain.model import Lacking
from autofit.domain.outcome import Measured, Outcome
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choose, GiveUp, Probe, Trial
from autofit.planning.plan.fit import fits
from autofit.planning.probe_steps import MEASURE_S
from autofit.planning.search.policy import decide
from autofit.planning.setting import Setting
from autofit.planning.space import axes
from autofit.planning.space.ladder_builder import build_ladder

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.planning import simulated as sim

FAULTS = sim.Faults(crashed=0.02, unsupported=0.02, timed_out=0.01)
DEVICE_COUNTS = (1, 2, 4, 8, 64)
BETWEEN = ((GRADIENT_CHECKPOINTING.name, ("every-2", "selective", "offload")), (OFFLOAD.name, ("partial",)))
LENGTHS_S = {"1 minute": 60, "10 minutes": 600, "1 hour": 3600, "1 day": 86400}  # of a training with the best strategy


@dataclass(frozen=True)
class Space:
    """What is searched: the plain values alone, or all that are tried unasked and what is allowed beside them."""

    name: str
    is_plain: bool = False
    allow: tuple[str, ...] = ()

    def of(self, scene: Setting) -> Setting:
        left_out = (
            tuple(Lacking(knob, word, "left out") for knob, words in BETWEEN for word in words) if self.is_plain else ()
        )
        return replace(scene, request=replace(scene.request, allow=self.allow), lacking=left_out)


PLAIN, LARGER = Space("plain", is_plain=True), Space("larger")


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
    """A search to its end: `spent_s` until the training that ends, `tokens_per_s` its true speed, 0 when it found
    nothing. `is_unprobed`: something was chosen without a probe; `has_failed`: which failed at its start."""

    probes: int
    spent_s: float
    tokens_per_s: float
    is_unprobed: bool = False
    has_failed: bool = False


def timed_search(cluster: sim.Cluster, goal: Goal) -> TimedSearch:
    """Rehearsals run side by side: the longest of them counts. A choice that fails at its start is a trial like any
    other, and the search goes on."""
    probes_s, rehearsals_s = [], [0.0]
    probe_once = cluster.racing()

    def probed(probe: Probe) -> Outcome:
        outcome = probe_once(probe)
        probes_s.append(cluster.probe_s(probe.strategy, outcome, probe.measure_s or MEASURE_S))
        return replace(outcome, total_s=probes_s[-1])

    def rehearsed(strategy: Strategy) -> Outcome:
        outcome = cluster.rehearse(strategy)
        rehearsals_s.append(cluster.rehearsal_s(strategy, outcome))
        return replace(outcome, total_s=rehearsals_s[-1])

    failed: list[Trial] = []
    before: tuple[Trial, ...] = ()
    while True:
        run = sim.race(cluster.scene, cluster.rungs, probed, rehearse=rehearsed, before=before, goal=goal)
        if isinstance(run.end, GiveUp) or cluster.fits(run.end.choice.strategy):
            break
        failed.append(failed_start(cluster, run.end.choice.strategy))
        before = (*run.trials, failed[-1])
    speed = 0.0 if isinstance(run.end, GiveUp) else cluster.tokens_per_s(run.end.choice.strategy)
    starts_s = sum(trial.outcome.total_s for trial in failed)
    is_unprobed = bool(failed) or (isinstance(run.end, Choose) and run.end.choice.measured is None)
    return TimedSearch(
        len(probes_s), sum(probes_s) + max(rehearsals_s) + starts_s, speed, is_unprobed, has_failed=bool(failed)
    )


def failed_start(cluster: sim.Cluster, strategy: Strategy) -> Trial:
    """A training that ends at its first steps: of the rung's own fault, or out of memory. After it the processes of the
    probes start again."""
    outcome = cluster.probe(strategy)
    if isinstance(outcome, Measured):
        outcome = sim.out_of_memory()
    total_s = cluster.probe_s(strategy, outcome) + cluster.start_s
    return Trial(strategy, cluster.rungs.estimate(strategy), replace(outcome, total_s=total_s))


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
    return (
        OFFLOAD.plainness(step.rung.offload),
        step.rung.gradient_checkpointing.recomputes,
        step.rung.method is Method.LORA,
        step.rung.zero_stage,
    )


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


def machine(seed: int, method: Method | None, space: Space) -> sim.Cluster:
    ranks = DEVICE_COUNTS[seed % len(DEVICE_COUNTS)]
    scene = space.of(sim.random_scene(seed, ranks=ranks, method=method))
    scene = replace(sim.traced(scene), rehearsal_count=min(ranks, 8))
    return sim.Cluster(scene, build_ladder(scene, axes.settle(scene)), seed, FAULTS)


@dataclass(frozen=True)
class Timed:
    """Of one training in one space: the usual search and one that goes on until nothing left can be faster by 1 %."""

    ours: TimedSearch
    certain: TimedSearch
    tokens: float
    best: float  # tokens/s of the fastest that truly fits in this space

    def end_s(self, search: TimedSearch) -> float:
        return search.spent_s + self.tokens / search.tokens_per_s


@dataclass(frozen=True)
class Searched:
    """Of one machine in one space in which something fits: its best speed, what each way found, and the trainings by
    their lengths."""

    best: float
    ways: dict[str, Result]
    trainings: dict[str, Timed]


def play(count: int, method: Method | None, spaces: tuple[Space, ...]) -> list[dict[str, Searched]]:
    """What came of each machine, by the names of the spaces in which something fits."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_searched, range(count), [method] * count, [spaces] * count, chunksize=2))


def _searched(seed: int, method: Method | None, spaces: tuple[Space, ...]) -> dict[str, Searched]:
    """A training's length is that of what is fastest in the first space in which something fits."""
    found, usual = {}, 0.0
    for space in spaces:
        cluster = machine(seed, method, space)
        best = cluster.best_tokens_per_s()
        if best > 0:
            usual = usual or best
            found[space.name] = Searched(best, _ways(cluster, method), _trainings(cluster, best, usual))
    return found


def _ways(cluster: sim.Cluster, method: Method | None) -> dict[str, Result]:
    ours = autofit(cluster)
    results = {
        "autofit": ours,
        "ladder walk": ladder_walk(cluster),
        "random, as many probes": random_search(cluster, ours.probes),
    }
    return {**results, "autotuner's order": autotuner_order(cluster)} if method is Method.FULL else results


def _trainings(cluster: sim.Cluster, best: float, usual: float) -> dict[str, Timed]:
    certain = timed_search(cluster, sim.CERTAIN)
    tokens_per_step = cluster.rungs.steps[0].estimates[0].speed.tokens_per_step
    found = {}
    for name, length_s in LENGTHS_S.items():
        steps = max(1, round(length_s * usual / tokens_per_step))
        found[name] = Timed(timed_search(cluster, TimeToEnd(steps)), certain, steps * tokens_per_step, best)
    return found


def compare(found: list[dict[str, Searched]], space: Space) -> dict[str, object]:
    """Every way on the same machines; the ones on which nothing fits are counted apart."""
    mine = [one[space.name] for one in found if space.name in one]
    return {
        "machines": len(found),
        "nothing fits": len(found) - len(mine),
        "ways": {name: _way([(one.ways[name], one.best) for one in mine]) for name in mine[0].ways},
    }


def _way(found: list[tuple[Result, float]]) -> dict[str, object]:
    regrets = [1 - result.speed / best for result, best in found if result.speed > 0]
    probes = [result.probes for result, _ in found]
    return _summary(regrets or [1.0], probes, sum(result.speed == 0 for result, _ in found))


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


def compare_times(found: list[dict[str, Searched]], spaces: tuple[Space, ...]) -> dict[str, object]:
    """For each length of a training the time to its end ÷ that of who knows the best of the space beforehand and
    searches nothing: of the search, and of one that goes on; and ÷ that of the search in the first space."""
    return {length: {space.name: _times(found, length, space, spaces[0]) for space in spaces} for length in LENGTHS_S}


def _times(found: list[dict[str, Searched]], length: str, space: Space, first: Space) -> dict[str, object]:
    mine = [one[space.name].trainings[length] for one in found if space.name in one]
    figures = {
        "autofit": _time_figures([(one, one.ours) for one in mine]),
        "until 1 %": _time_figures([(one, one.certain) for one in mine]),
    }
    if space is first:
        return figures
    both = [
        (one[space.name].trainings[length], one[first.name].trainings[length]) for one in found if first.name in one
    ]
    has_ended = [pair for pair in both if all(one.ours.tokens_per_s > 0 for one in pair)]
    ratios = sorted(one.end_s(one.ours) / other.end_s(other.ours) for one, other in has_ended)
    return {**figures, f"÷ the {first.name} space's": _spread(ratios)}


def _spread(ordered: list[float]) -> dict[str, float]:
    return {
        "mean": round(statistics.mean(ordered), 4),
        "median": round(statistics.median(ordered), 4),
        "95th percentile": round(ordered[int(0.95 * (len(ordered) - 1))], 4),
    }


def _time_figures(found: list[tuple[Timed, TimedSearch]]) -> dict[str, object]:
    ended = [(training, one) for training, one in found if one.tokens_per_s > 0]
    ratios = sorted(training.end_s(one) * training.best / training.tokens for training, one in ended)
    searches = [one for _, one in found]
    return {
        "median time to the end": round(statistics.median(ratios), 4),
        "95th percentile": round(ratios[int(0.95 * (len(ratios) - 1))], 4),
        "mean": round(statistics.mean(ratios), 4),
        "median search_s": round(statistics.median(one.spent_s for one in searches), 1),
        "mean probes": round(statistics.mean(one.probes for one in searches), 1),
        "wrong 'nothing fits'": sum(one.tokens_per_s == 0 for one in searches),
        "chosen unprobed": sum(one.is_unprobed for one in searches),
        "of them failed at the start": sum(one.has_failed for one in searches),
    }


def planning_times() -> list[dict[str, object]]:
    """Seconds of CPU for the ladder with its estimates and for the first decision, by the number of devices."""
    return [_planning_time(count) for count in (1, 4, 16, 64, 256, 1024)]


def _planning_time(count: int) -> dict[str, object]:
    scene = sim.traced(sim.setting(sim.hardware(count, 80), global_batch=8 * count))
    ladder_s, ladder = _timed(lambda: sim.ladder(scene))
    decide_s, _ = _timed(lambda: decide(ladder, (), scene, sim.CERTAIN))
    strategies = sum(len(step.strategies) for step in ladder.steps)
    return {"devices": count, "strategies": strategies, "ladder_s": round(ladder_s, 4), "decide_s": round(decide_s, 4)}


def _timed(work: Callable[[], object]) -> tuple[float, Ladder]:
    began_at_s = time.process_time()
    value = work()
    return time.process_time() - began_at_s, value  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=1000, help="of each kind of request")
    parser.add_argument("--allow", default="", help="what `autofit train --allow` has, for one more space")
    add_date(parser)
    options = parser.parse_args()
    allow = tuple(word for word in options.allow.split(",") if word)
    check_allowed(allow)
    spaces = (PLAIN, LARGER, *([Space(f"with {options.allow}", allow=allow)] if allow else []))
    result = header("search simulation", options.date)
    for kind, method in (("all parameters or LoRA", None), ("all parameters", Method.FULL)):
        found = play(options.machines, method, spaces)
        result[kind] = {space.name: compare(found, space) for space in spaces}
        result[f"time to the end, {kind}"] = compare_times(found, spaces)
    print(json.dumps({**result, "planning": planning_times()}, indent=2))


if __name__ == "__main__":
    main()
