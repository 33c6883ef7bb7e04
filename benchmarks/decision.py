"""How long it takes to decide how to train, and how good the decision is: autofit, trying everything, the autotuner.

python benchmarks/decision.py [--rounds 3] [--quick] [--cold] [--out FILE] [--date 2026-11-26]

One small model, two CPU ranks under a memory limit, a training of ten minutes, and some ways to decide:

- everything, warm: each rung with each micro-batch by a warm probe, which tells how many steps ten minutes are;
- autofit: `autofit train` up to its choice, with empty caches, and once more with what it then remembers;
- DeepSpeed's autotuner: `deepspeed --autotuning tune` (left out, with the reason, where it cannot run);
- with --cold everything once more, as `deepspeed` jobs.

Then the best of them and every pick are measured again with warm probes, in turns. Regret is what a pick's median
speed gives away against the best median; the time to the end is that of deciding and of training with the pick, over
that of training with the best, known beforehand. Prints a table and writes a JSON object. On two cores, with nothing
else to do: 12 minutes for 36 configurations, LoRA among them; fewer with --quick (12), ten more with --cold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from _autofit_run import Decision, decide
from _autotuner import Tuned, tune, why_not
from _case import EXAMPLES, Case, make_case
from _cold_job import ColdJob, cold_job
from _decision_report import body, print_table
from _findings import Length, Parties, Warm, aims, rows
from _machine import add_date, header
from _verdict import Speed, finalists
from _warm_probes import PROBE_S, Prober, warm_prober

from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Measured
from autofit.domain.strategy import Strategy
from autofit.domain.units import format_seconds

RESULTS = Path(__file__).with_name("results")
FINALISTS = 3  # the best so many of the cold and of the warm sweep
ROUND_S = 6.0  # measured steps of a finalist's probe: longer than in a search, against noise
LIMIT_MB = 790  # without checkpointing the largest micro-batch needs more, the smaller ones less


def main() -> None:
    options = _options()
    subprocess.run([sys.executable, EXAMPLES / "make_tiny_model.py"], check=True, stdout=subprocess.DEVNULL)
    opening = header("decision", options.date)
    with tempfile.TemporaryDirectory(prefix="decision-") as name:
        folder = Path(name)
        case = _case(options, folder)
        _tell("warming up")
        cold_job(case, case.candidates[0], folder / "warm-up")  # compiles DeepSpeed's kernels, warms the page cache
        with warm_prober(case, folder / "warm") as prober:
            once, sweep_s = _sweep(prober, case)
            length = Length.of(options.training_s, max(once.values()), case.tokens_per_step)
        parties = _parties(case.of_steps(length.step_count), folder, options)
        with warm_prober(case, folder / "finals") as prober:
            speeds = _finals(prober, finalists((once, parties.cold_speeds), parties.picks, FINALISTS), options.rounds)
    warm = Warm(sweep_s, len(case.candidates), once, speeds)
    found = rows(parties, warm, length)
    reached = aims(parties, found)
    print_table(case, parties.tuned, found, reached, length)
    result = opening | body(case, parties, warm, found, length, is_quick=options.quick) | {"aims": reached}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="all parameters only, two micro-batches")
    parser.add_argument("--seq", type=int, help="tokens; 256, and 512 with --quick")
    parser.add_argument("--batch-size", type=int, help="the global batch; 8, and 4 with --quick")
    parser.add_argument("--limit-mb", type=int, default=LIMIT_MB, help="each rank's memory in 1e6 bytes")
    parser.add_argument("--rounds", type=int, default=3, help="of autofit, of its second time, and of each finalist")
    parser.add_argument("--autotuner-rounds", type=int, default=1, help="three minutes each; 0: none")
    parser.add_argument("--training-s", type=float, default=600.0, help="of the training, at the best one's speed")
    parser.add_argument("--cold", action="store_true", help="everything as `deepspeed` jobs, too")
    parser.add_argument("--autotuner-deadline", type=float, default=1800.0, help="seconds, then it is ended")
    parser.add_argument("--out", type=Path, help="where the JSON goes; results/DATE-decision[-quick]-cpuN.json")
    add_date(parser)
    options = parser.parse_args()
    quick = "-quick" if options.quick else ""
    options.out = options.out or RESULTS / f"{options.date}-decision{quick}-cpu{len(os.sched_getaffinity(0))}.json"
    return options


def _case(options: argparse.Namespace, folder: Path) -> Case:
    """The tokens of a micro-step, and so the memory, of the larger micro-batches are the same with --quick."""
    return make_case(
        folder,
        sequence_length=options.seq or (512 if options.quick else 256),
        global_batch=options.batch_size or (4 if options.quick else 8),
        limit_bytes=options.limit_mb * 10**6,
        method=Method.FULL if options.quick else None,
    )


def _parties(case: Case, folder: Path, options: argparse.Namespace) -> Parties:
    autofit, again = [], []
    for number in range(1, options.rounds + 1):
        cache = folder / f"cache{number}"
        autofit.append(_decide(case, folder / f"autofit{number}", cache, "autofit"))
        again.append(_decide(case, folder / f"again{number}", cache, "autofit again"))
    return Parties(autofit, again, _cold_sweep(case, folder) if options.cold else (), _tune(case, folder, options))


def _decide(case: Case, folder: Path, cache: Path, name: str) -> Decision:
    decision = decide(case, folder, cache)
    _tell(f"{name}: {decision.strategy} in {format_seconds(decision.decide_s)}, {decision.probe_count} probes")
    return decision


def _tune(case: Case, folder: Path, options: argparse.Namespace) -> list[Tuned] | str:
    if options.autotuner_rounds <= 0:
        return "not asked for"
    if (reason := why_not()) is not None:
        return reason
    _tell("DeepSpeed's autotuner")
    names = [f"autotuner{number}" for number in range(options.autotuner_rounds)]
    return [tune(case, folder / name, options.autotuner_deadline) for name in names]


def _cold_sweep(case: Case, folder: Path) -> list[ColdJob]:
    jobs = []
    for number, candidate in enumerate(case.candidates, 1):
        jobs.append(cold_job(case, candidate, folder / f"cold{number}"))
        said = jobs[-1].failure or f"{jobs[-1].tokens_per_s:.0f} tokens/s"
        _tell(f"cold {number}/{len(case.candidates)}: {candidate}: {said} in {format_seconds(jobs[-1].total_s)}")
    return jobs


def _sweep(prober: Prober, case: Case) -> tuple[dict[Strategy, float], float]:
    """The speeds (tokens/s) of all that fits, and the seconds that it took."""
    began_at_s = time.monotonic()
    once = _speeds_once(prober, case.candidates)
    sweep_s = time.monotonic() - began_at_s
    _tell(f"all of them warm in {format_seconds(sweep_s)}")
    return once, sweep_s


def _finals(prober: Prober, chosen: Sequence[Strategy], round_count: int) -> dict[Strategy, Speed]:
    rounds = []
    for number in range(1, round_count + 1):
        rounds.append(_speeds_once(prober, chosen, ROUND_S))
        _tell(f"round {number}/{round_count}: {_listed(rounds[-1])}")
    by_strategy = {each: [speeds[each] for speeds in rounds if each in speeds] for each in chosen}
    # What runs out of memory once in a while does not fit.
    return {each: Speed.of(values) for each, values in by_strategy.items() if len(values) == round_count}


def _speeds_once(prober: Prober, strategies: Iterable[Strategy], measure_s: float = PROBE_S) -> dict[Strategy, float]:
    """Tokens/s of those that fit."""
    outcomes = {strategy: prober.probe(strategy, measure_s) for strategy in strategies}
    return {each: outcome.tokens_per_s for each, outcome in outcomes.items() if isinstance(outcome, Measured)}


def _listed(speeds: dict[Strategy, float]) -> str:
    return ", ".join(f"{strategy} {speed:.0f}" for strategy, speed in speeds.items())


def _tell(text: str) -> None:
    """Progress goes where it does not mix with the result."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
