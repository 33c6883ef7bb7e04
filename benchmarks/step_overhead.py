"""What a step takes by what people run and by what autofit runs, with each difference between the two by itself.

python benchmarks/step_overhead.py [--rounds 5] [--steps 20] [--zero-stage 1] [--seq 256] [--batch-size 8]
                                   [--date 2026-11-26]

Two CPU ranks, the tiny Llama of examples/ with all parameters in bf16, the same rows a step by each way:

- trl: trl's trainer with DeepSpeed's ZeRO and DeepSpeed's own bucket sizes;
- configuration: the same with the DeepSpeed configuration that autofit writes;
- environment: the same with what autofit sets in the environment of its ranks, kept for the whole training;
- command.sh: autofit's own training, as the run folder starts it.

They take turns, so that whatever else the machine does meets all alike. Prints one JSON object. On two idle cores two
minutes a round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from _case import EXAMPLES, RANKS, Case, make_case, strategy
from _machine import add_date, header
from _step_plain import TOLD
from _step_rank import FOLDER, MODULE

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Measured
from autofit.domain.request import Training
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choice
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE
from autofit.process.python import CPU_ALLOCATOR, DEEPSPEED_MODULE, module_command, worker_environment
from autofit.process.rendezvous import free_port, remove_shared_memory
from autofit.running.training_command import command_script
from autofit.runs.run_folder import RunFolder

ROOM_BYTES = 8 * 10**9  # of a rank: neither the bucket nor the heap is short of it
WARM_UP_STEPS = 3  # two show what memory is needed, and the heap changes after them
OWN_BUCKETS = ("reduce_bucket_size", "allgather_bucket_size")  # where they are missing DeepSpeed has its own
_UNMEASURED = Measured(0, 0, 0.0, 0.0, 0.0, 0.0)  # choice.json has to hold something
_HERE = str(Path(__file__).parent)
_MODULE = "_step_rank"


class Cost(NamedTuple):
    """Of one step and one rank: the mean of the ranks."""

    wall_ms: float  # the median of the steps
    cpu_ms: float  # user and system, the mean
    faults: float  # pages that the kernel cleared, the mean
    peak_mb: float  # of the whole process


@dataclass(frozen=True)
class Bench:
    case: Case
    strategy: Strategy
    step_count: int

    @property
    def config(self) -> dict[str, object]:
        """The configuration as autofit writes it; ZeRO's alone are compared."""
        config = self.case.deepspeed_config(self.strategy)
        assert config is not None
        return config

    def trl(self, folder: Path) -> Cost:
        config = self.config
        zero = config["zero_optimization"]
        assert isinstance(zero, dict)
        own = {key: value for key, value in zero.items() if key not in OWN_BUCKETS}
        return self._plain(folder, config | {"zero_optimization": own}, {})

    def configuration(self, folder: Path) -> Cost:
        return self._plain(folder, self.config, {})

    def environment(self, folder: Path) -> Cost:
        return self._plain(folder, self.config, CPU_ALLOCATOR)

    def _plain(self, folder: Path, config: Mapping[str, object], variables: Mapping[str, str]) -> Cost:
        told = {
            "model": self.case.request.model,
            "data": self.case.request.data,
            "output": str(folder / "output"),
            "micro_batch": self.strategy.micro_batch,
            "gradient_accumulation": self.strategy.gradient_accumulation,
            "sequence_length": self.case.request.sequence_length,
            "step_count": self.step_count,
            "pad_to_multiple_of": PAD_TO_MULTIPLE[DeviceKind.CPU],
            "seed": self.case.request.training.seed,
            "deepspeed": config,
        }
        path = folder / "told.json"
        path.write_text(json.dumps(told))
        words = ["--hostfile", "/dev/null", "--master_addr", "127.0.0.1", "--num_gpus", str(RANKS)]
        launcher = [*module_command(DEEPSPEED_MODULE), *words, "--master_port", str(free_port()), "--module", _MODULE]
        return _cost(launcher, folder, {**variables, MODULE: "_step_plain", TOLD: str(path)})

    def command(self, folder: Path) -> Cost:
        run = RunFolder(folder / "run")
        run.create()
        training = Training(max_steps=self.step_count, extra_arguments=("--save_strategy", "no"))
        run.write_request(replace(self.case.request, training=training))
        run.write_choice(Choice(self.strategy, _UNMEASURED, "a benchmark"))
        run.write_ds_config(self.config)
        launcher = module_command(DEEPSPEED_MODULE)
        written = command_script(self.case.hardware, launcher, package_folders=_paths())
        script = run.root / "command.sh"
        own = written.replace("--module autofit.worker.train", f"--module {_MODULE}")
        script.write_text(own.replace("--master_addr", f"--master_port {free_port()} --master_addr"))
        return _cost(["sh", str(script)], folder, {MODULE: "autofit.worker.train"})


def main() -> None:
    options = _options()
    subprocess.run([sys.executable, EXAMPLES / "make_tiny_model.py"], check=True, stdout=subprocess.DEVNULL)
    body = header("step_overhead", options.date)
    with tempfile.TemporaryDirectory(prefix="step-overhead-") as name:
        bench = _bench(options, Path(name))
        rounds = [_round(bench, number) for number in range(options.rounds)]
        zero = bench.config["zero_optimization"]
        body |= {"strategy": str(bench.strategy), "step_count": options.steps, "zero_optimization": zero}
    print(json.dumps(body | summary(rounds), indent=2))


def summary(rounds: list[dict[str, Cost]]) -> dict[str, object]:
    """`ratios` are medians of a way's figure ÷ that of trl in the same round."""
    ratios = {
        name: {
            field: round(statistics.median(getattr(one[name], field) / getattr(one["trl"], field) for one in rounds), 4)
            for field in ("wall_ms", "cpu_ms")
        }
        for name in rounds[0]
    }
    medians = {
        name: {
            field: round(statistics.median(getattr(one[name], field) for one in rounds), 1) for field in Cost._fields
        }
        for name in rounds[0]
    }
    return {"rounds": len(rounds), "median": medians, "ratios": ratios}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help=f"the first {WARM_UP_STEPS} do not count")
    parser.add_argument("--zero-stage", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--seq", type=int, default=256, help="tokens of a row")
    parser.add_argument("--batch-size", type=int, default=8, help="rows a step, of both ranks, without accumulation")
    add_date(parser)
    return parser.parse_args()


def _bench(options: argparse.Namespace, folder: Path) -> Bench:
    case = make_case(
        folder,
        sequence_length=options.seq,
        global_batch=options.batch_size,
        limit_bytes=ROOM_BYTES,
        method=Method.FULL,
    )
    size = options.batch_size // RANKS
    return Bench(case, strategy(Method.FULL, options.zero_stage, False, size, options.batch_size), options.steps)


def _round(bench: Bench, number: int) -> dict[str, Cost]:
    """By way; who goes first changes from round to round."""
    ways: dict[str, Callable[[Path], Cost]] = {
        "trl": bench.trl,
        "configuration": bench.configuration,
        "environment": bench.environment,
        "command.sh": bench.command,
    }
    found = {}
    for name in list(ways) if number % 2 else list(reversed(ways)):
        with tempfile.TemporaryDirectory(prefix="way-") as folder:
            found[name] = ways[name](Path(folder))
        print(f"round {number + 1}, {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def _paths() -> str:
    return os.pathsep.join([_HERE, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])


def _cost(command: list[str], folder: Path, variables: Mapping[str, str]) -> Cost:
    """One training to its end; each rank has its share of the cores, as torchrun and autofit give it."""
    environment = {
        name: value for name, value in worker_environment(DeviceKind.CPU).items() if name not in CPU_ALLOCATOR
    }
    share = str(max(1, len(os.sched_getaffinity(0)) // RANKS))
    environment |= {"PYTHONPATH": _paths(), "OMP_NUM_THREADS": share, "LOCAL_SIZE": str(RANKS), FOLDER: str(folder)}
    environment |= variables
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if "--master_port" in command:
        remove_shared_memory(command[command.index("--master_port") + 1])  # which plain DeepSpeed leaves behind
    if done.returncode != 0:
        raise SystemExit(
            f"{' '.join(command)} ended with exit code {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}"
        )
    ranks = [_of_rank(json.loads(path.read_text())) for path in sorted(folder.glob("steps*.json"))]
    return Cost(*(sum(part) / len(ranks) for part in zip(*ranks, strict=True)))


def _of_rank(told: dict[str, Any]) -> Cost:
    ends = told["ends"][WARM_UP_STEPS - 1 :]
    count = len(ends) - 1
    walls_s = [after[0] - before[0] for before, after in pairwise(ends)]
    cpu_s, faults = ((ends[-1][field] - ends[0][field]) / count for field in (1, 2))
    return Cost(1e3 * statistics.median(walls_s), 1e3 * cpu_s, faults, told["peak_bytes"] / 1e6)


if __name__ == "__main__":
    main()
