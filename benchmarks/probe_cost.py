"""What a probe costs, next to a cold `deepspeed` job of the same configuration, and what either leaves behind.

python benchmarks/probe_cost.py [--repeats 3] [--date 2026-11-21]

Prints one JSON object. Tiny model of examples/, two CPU ranks, no memory limit; two minutes on two
cores. Probes and cold jobs take turns, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from _left_behind import MARK, Traces
from _machine import add_date, header

from autofit.app.probe_specs import training_files
from autofit.domain.event import TrainingEnded
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Measured
from autofit.domain.request import Lora, Request, Training
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trial import Choice
from autofit.domain.workload import DataProfile
from autofit.hardware.cgroup import oom_kill_count
from autofit.hardware.machine import detect
from autofit.inputs.model_files import read_model_files
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE, typical_shapes, widths, worst_shape
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.probing.agent import Agent
from autofit.probing.protocol import Job, ProbeSpec
from autofit.running.full_run import train
from autofit.runs.run_folder import RunFolder

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RANKS, MICRO_BATCH, ACCUMULATION = 2, 2, 2
COLD_STEPS = 3
BEAT_TIMEOUT_S = 300.0

STRATEGIES = tuple(
    Strategy(
        Rung(
            method=method,
            zero_stage=2,
            offload=Offload.NONE,
            gradient_checkpointing=GradientCheckpointing.OFF,
            attention=Attention.SDPA,
            dtype=Dtype.BF16,
        ),
        MICRO_BATCH,
        ACCUMULATION,
    )
    for method in (Method.LORA, Method.FULL)
)
REQUEST = Request(
    model=str(EXAMPLES / "tiny-llama"),
    sequence_length=256,
    global_batch=RANKS * MICRO_BATCH * ACCUMULATION,
    data=str(EXAMPLES / "dialogues.jsonl"),
    lora=Lora(r=8),
    # The cold job writes no checkpoint, so that it does no more than a probe: a few steps and one saved model.
    training=Training(max_steps=COLD_STEPS, extra_arguments=("--save_strategy", "no")),
    ranks=RANKS,
)


@dataclass(frozen=True)
class Machine:
    hardware: Hardware
    shape: ModelShape


@dataclass(frozen=True)
class Pair:
    """The same strategy both ways, one straight after the other."""

    probe: Measured
    cold: TrainingEnded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="probes and cold jobs of each strategy")
    add_date(parser)
    options = parser.parse_args()
    subprocess.run([sys.executable, EXAMPLES / "make_tiny_model.py"], check=True, stdout=subprocess.DEVNULL)
    os.environ[MARK] = mark = uuid.uuid4().hex
    body = header("probe_cost", options.date) | {"rank_count": RANKS, "repeats": options.repeats}
    before = Traces.now(mark)
    with tempfile.TemporaryDirectory(prefix="probe-cost-") as folder:
        machine = Machine(_cpu_ranks(Path(folder)), read_model_files(REQUEST.model).shape)
        agent_start_s, rounds = run_rounds(machine, Path(folder), options.repeats)
    figures = {
        "agent": {"cold_start_s": round(agent_start_s, 2)},
        "strategies": {str(strategy): _summary([each[strategy] for each in rounds]) for strategy in STRATEGIES},
        "left_behind": Traces.settled(mark).beyond(before),
    }
    print(json.dumps(body | figures, indent=2))


def _cpu_ranks(folder: Path) -> Hardware:
    return detect(ranks=RANKS, memory_limit_bytes=None, visible_devices="", disk_path=folder)


def run_rounds(machine: Machine, folder: Path, repeats: int) -> tuple[float, list[dict[Strategy, Pair]]]:
    """What the agent's start took (s), and round by round a probe and a cold job of each strategy."""
    began_at_s = time.perf_counter()
    with Agent(kind=DeviceKind.CPU, log_path=folder / "agent.log", oom_kill_count=oom_kill_count) as agent:
        agent.wait_ready()
        start_s = time.perf_counter() - began_at_s
        profile = agent.survey(REQUEST, log_path=folder / "survey.log")
        rounds = [
            {strategy: _pair(machine, profile, agent, strategy, folder / f"{number}-{strategy.rung}")
             for strategy in STRATEGIES}
            for number in range(repeats)
        ]  # fmt: skip
    return start_s, rounds


def _pair(machine: Machine, profile: DataProfile, agent: Agent, strategy: Strategy, folder: Path) -> Pair:
    folder.mkdir()
    spec = _spec(machine, profile, strategy, folder / "probe")
    outcome = agent.probe(spec, lambda phase: None)
    if not isinstance(outcome, Measured):
        raise SystemExit(f"{strategy}: {outcome}\n{Path(spec.log_path).read_text()[-2000:]}")
    return Pair(outcome, cold_job(machine, strategy, outcome, folder / "cold"))


def _spec(machine: Machine, profile: DataProfile, strategy: Strategy, scratch: Path) -> ProbeSpec:
    narrower = widths(profile, PAD_TO_MULTIPLE[DeviceKind.CPU])
    job = Job(REQUEST, strategy, json.dumps(_deepspeed_config(machine, strategy)), DeviceKind.CPU, RANKS)
    return ProbeSpec(
        job=job,
        worst=(*narrower, worst_shape(profile, MICRO_BATCH)),
        typical=typical_shapes(profile, MICRO_BATCH, 32),
        scratch_path=str(scratch),
        log_path=f"{scratch}.log",
        heartbeat_timeout_s=BEAT_TIMEOUT_S,
        has_save=True,
    )


def cold_job(machine: Machine, strategy: Strategy, measured: Measured, folder: Path) -> TrainingEnded:
    """A `deepspeed` job from nothing: launcher, imports, real weights and data, a few steps, a saved model."""
    run = RunFolder(folder)
    run.create()
    run.write_request(REQUEST)
    run.write_choice(Choice(strategy, measured, "a benchmark"))
    run.write_ds_config(_deepspeed_config(machine, strategy))
    files = training_files(run, strategy.rung)
    ended = train(machine.hardware, files, run.training_log, lambda progress: None)
    assert isinstance(ended, TrainingEnded)
    assert ended.step_count == COLD_STEPS
    return ended


def _deepspeed_config(machine: Machine, strategy: Strategy) -> dict[str, object]:
    return deepspeed_config(strategy, REQUEST, machine.shape, DeviceKind.CPU)


def _summary(pairs: list[Pair]) -> dict[str, object]:
    warm_s, cold_s = [pair.probe.total_s for pair in pairs], [pair.cold.total_s for pair in pairs]
    return {
        "warm_probe_start_s": round(statistics.median(pair.probe.start_s for pair in pairs), 3),
        "warm_probe_total_s": _spread(warm_s),
        "cold_job_total_s": _spread(cold_s),
        "cold_job_step_count": COLD_STEPS,
        "cold / warm": round(statistics.median(cold_s) / statistics.median(warm_s), 1),
    }


def _spread(values: list[float]) -> dict[str, float]:
    spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 2) for name, value in spread.items()}


if __name__ == "__main__":
    main()
