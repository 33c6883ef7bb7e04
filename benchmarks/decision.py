"""How long it takes to decide how to train, and how good the decision is: autofit, trying everything, the autotuner.

python benchmarks/decision.py [--quick] [--out FILE] [--date 2026-11-21]

One small model, two CPU ranks under a memory limit, three ways to the fastest configuration that fits:

- autofit: `autofit train` up to its choice, with empty caches, and once more with what it then remembers;
- everything, cold: each rung with each micro-batch as a `deepspeed` job of its own;
- DeepSpeed's autotuner: `deepspeed --autotuning tune` (left out, with the reason, where it cannot run).

Then the best of them and every pick are measured again with warm probes, in turns: regret is what a pick's median
speed gives away against the best median. Prints a table and writes a JSON object. On two cores, with nothing else
to do: 24 minutes for 36 configurations, LoRA among them; fewer with --quick (12).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from _autofit_run import decide
from _autotuner import Tuned, tune, why_not
from _case import EXAMPLES, Case, make_case
from _cold_job import ColdJob, cold_job
from _decision_report import body, print_table
from _findings import Parties, Warm, aims, rows
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
        parties = _parties(case, folder, options.autotuner_deadline)
        warm = _warm(case, folder / "warm", parties, options.rounds)
    found = rows(parties, warm)
    reached = aims(parties, found)
    print_table(case, parties.tuned, found, reached)
    result = opening | body(case, parties, warm, found, options.quick) | {"aims": reached}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="all parameters only, two micro-batches")
    parser.add_argument("--seq", type=int, help="tokens; 256, and 512 with --quick")
    parser.add_argument("--batch-size", type=int, help="the global batch; 8, and 4 with --quick")
    parser.add_argument("--limit-mb", type=int, default=LIMIT_MB, help="each rank's memory in 1e6 bytes")
    parser.add_argument("--rounds", type=int, default=5, help="warm probes of each finalist")
    parser.add_argument("--autotuner-deadline", type=float, default=1800.0, help="seconds, then it is ended; 0: none")
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


def _parties(case: Case, folder: Path, autotuner_deadline_s: float) -> Parties:
    """The first job is thrown away: it compiles DeepSpeed's kernels, once a machine, and warms the page cache."""
    _tell("warming up")
    cold_job(case, case.candidates[0], folder / "warm-up")
    _tell("autofit")
    autofit = decide(case, folder / "autofit", folder / "cache")
    _tell(f"autofit again, having chosen {autofit.strategy} in {format_seconds(autofit.decide_s)}")
    again = decide(case, folder / "again", folder / "cache")
    _tell("DeepSpeed's autotuner")
    tuned = _tune(case, folder / "autotuner", autotuner_deadline_s)
    return Parties(autofit, again, _cold_sweep(case, folder), tuned)


def _tune(case: Case, folder: Path, deadline_s: float) -> Tuned | str:
    if deadline_s <= 0:
        return "not asked for"
    return why_not() or tune(case, folder, deadline_s)


def _cold_sweep(case: Case, folder: Path) -> list[ColdJob]:
    jobs = []
    for number, candidate in enumerate(case.candidates, 1):
        jobs.append(cold_job(case, candidate, folder / f"cold{number}"))
        said = jobs[-1].failure or f"{jobs[-1].tokens_per_s:.0f} tokens/s"
        _tell(f"cold {number}/{len(case.candidates)}: {candidate}: {said} in {format_seconds(jobs[-1].total_s)}")
    return jobs


def _warm(case: Case, folder: Path, parties: Parties, round_count: int) -> Warm:
    began_at_s = time.monotonic()
    with warm_prober(case, folder) as prober:
        once = _speeds_once(prober, case.candidates)
        sweep_s = time.monotonic() - began_at_s
        _tell(f"all of them warm in {format_seconds(sweep_s)}")
        chosen = finalists((once, parties.cold_speeds), parties.picks, FINALISTS)
        rounds = []
        for number in range(1, round_count + 1):
            rounds.append(_speeds_once(prober, chosen, ROUND_S))
            _tell(f"round {number}/{round_count}: {_listed(rounds[-1])}")
    by_strategy = {each: [speeds[each] for speeds in rounds if each in speeds] for each in chosen}
    # What runs out of memory once in a while does not fit.
    speeds = {each: Speed.of(values) for each, values in by_strategy.items() if len(values) == round_count}
    return Warm(sweep_s, len(case.candidates), once, speeds)


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
