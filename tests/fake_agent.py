"""An agent without processes: a simulated machine answers its probes at once. It keeps the contract of the real one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.knobs.method import Method
from autofit.domain.model import ParameterGroup
from autofit.domain.outcome import Measured, Outcome, OutOfMemory, Phase, Place, TimedOut
from autofit.domain.request import Request
from autofit.domain.strategy import Strategy
from autofit.domain.trace import MicroStep, Moment, Trace, Work
from autofit.domain.workload import DataProfile, RowCounts
from autofit.probing.prober import OnBeat, OnRehearsalBeat, TrainingProber
from autofit.probing.protocol import ProbeSpec, Ready, Traced

STEP_S = 0.5  # how long a step takes there: a shorter deadline is missed
BASE_BYTES = 350_000_000


def peak_bytes(strategy: Strategy) -> int:
    """Less with each ZeRO stage, with LoRA and with checkpointing; more with each row."""
    rung = strategy.rung
    states = 40_000_000 if rung.method is Method.LORA else 240_000_000 // rung.zero_stage
    row = 20_000_000 if rung.gradient_checkpointing else 50_000_000
    return BASE_BYTES + states + row * strategy.micro_batch


def tokens_per_s(strategy: Strategy) -> float:
    """More with more rows, less with what saves memory; LoRA is faster."""
    rung = strategy.rung
    factor = 1.3 if rung.method is Method.LORA else 1.0
    factor *= 0.75 if rung.gradient_checkpointing else 1.0
    factor *= {1: 1.0, 2: 0.97, 3: 0.6}[rung.zero_stage]
    return 1000 * factor * strategy.micro_batch / (strategy.micro_batch + 1)


def outcome(spec: ProbeSpec, capacity_bytes: int) -> Outcome:
    """What the probe says on devices of `capacity_bytes` each."""
    if spec.heartbeat_timeout_s < STEP_S:
        return TimedOut(0, Phase.START, spec.heartbeat_timeout_s)
    strategy = spec.job.strategy
    held, limit = peak_bytes(strategy), min(capacity_bytes, spec.job.memory_limit_bytes or capacity_bytes)
    if held > limit:
        return OutOfMemory(0, Phase.BACKWARD, Place.DEVICE, "can't allocate memory", held - limit, limit)
    speed = tokens_per_s(strategy)
    step_s = 1000 / speed
    micro_step_s = step_s / strategy.gradient_accumulation
    return Measured(held, held, speed, step_s, micro_step_s, update_s=0.0, base_bytes=BASE_BYTES)


@dataclass
class SimulatedMachine:
    """What agents of a test run on, and what was asked of them; `on_ask` may raise what interrupts them."""

    capacity_bytes: int = 10**12
    lengths_tokens: tuple[int, ...] = (20, 40, 64)
    rows: RowCounts | None = None  # of the data
    on_ask: Callable[[Request | ProbeSpec], None] = lambda asked: None
    specs: list[ProbeSpec] = field(default_factory=list)  # of every probe and rehearsal that was begun
    survey_count: int = 0
    running_count: int = 0  # agents between the start and the end of their `with`

    def start_agent(self, **_: Any) -> FakeAgent:
        return FakeAgent(self)

    def start_tracer(self, log_path: Path) -> FakeAgent:
        return FakeAgent(self)


class FakeAgent:
    """A TrainingProber."""

    def __init__(self, machine: SimulatedMachine) -> None:
        self._machine = machine

    def __enter__(self) -> FakeAgent:
        self._machine.running_count += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._machine.running_count -= 1

    def wait_ready(self) -> Ready:
        return Ready(0.0)

    def survey(self, request: Request, *, log_path: Path) -> DataProfile:
        self._machine.survey_count += 1
        self._machine.on_ask(request)
        if request.data is not None:
            _check(Path(request.data))
        lengths = self._machine.lengths_tokens
        source = request.data or "the sample that ships"
        return DataProfile(source, "text", 100, 0, lengths[-1], lengths, rows=self._machine.rows)

    def trace(self, request: Request, micro_steps: Sequence[MicroStep], *, log_path: Path) -> Traced:
        return Traced(tuple(_trace(step) for step in micro_steps))

    def probe(self, spec: ProbeSpec, on_beat: OnBeat) -> Outcome:
        return self._answer(spec, lambda strategy, phase: on_beat(phase))

    def rehearse(self, specs: Sequence[ProbeSpec], on_beat: OnRehearsalBeat) -> tuple[Outcome, ...]:
        assert all(spec.job.is_rehearsal for spec in specs)
        return tuple(self._answer(spec, on_beat) for spec in specs)

    def _answer(self, spec: ProbeSpec, on_beat: OnRehearsalBeat) -> Outcome:
        self._machine.specs.append(spec)
        Path(spec.scratch_path).mkdir(parents=True)
        try:
            self._machine.on_ask(spec)
            Path(spec.log_path).write_text(f"{spec.job.strategy}\n")
            answer = outcome(spec, self._machine.capacity_bytes)
            if not isinstance(answer, TimedOut):
                for phase in (Phase.BUILD, Phase.INITIALIZE, Phase.FORWARD, Phase.BACKWARD):
                    on_beat(spec.job.strategy, phase)
            return answer
        finally:
            shutil.rmtree(spec.scratch_path)


def _trace(step: MicroStep) -> Trace:
    """One layer that holds what `peak_bytes` says of its rows."""
    row_bytes = 20_000_000 if step.gradient_checkpointing else 50_000_000
    forward = Work(10**9 * step.micro_batch, 10**7, 10**7, 30)
    twice = Work(2 * forward.matmul_flop, 2 * 10**7, 2 * 10**7, 60)
    trained = 10_000_000 if step.lora is None else 300_000
    moments = (
        Moment(Phase.FORWARD, row_bytes * step.micro_batch, 0, forward),
        Moment(Phase.BACKWARD, row_bytes * step.micro_batch, trained, twice),
    )
    groups = (ParameterGroup(10_000_000, 1, step.lora is None, 2),)
    return Trace(step, moments, groups if step.lora is None else (*groups, ParameterGroup(trained, 1, True, 2)))


def _check(data: Path) -> None:
    for number, line in enumerate(data.read_text().splitlines(), 1):
        try:
            json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{data}, line {number}: {error}") from error


IMPLEMENTS: type[TrainingProber] = FakeAgent
