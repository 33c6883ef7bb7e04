"""An agent without processes: a simulated machine answers its probes at once. It keeps the contract of the real one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from autofit.domain.errors import UsageError
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.model import ModelFacts
from autofit.domain.outcome import Measured, Outcome, OutOfMemory, Phase, Place, TimedOut
from autofit.domain.request import Request
from autofit.domain.strategy import Strategy
from autofit.domain.trace import MicroStep
from autofit.domain.workload import DataProfile, RowCounts
from autofit.probing.prober import OnHeartbeat, OnRehearsalHeartbeat, TrainingProber
from autofit.probing.protocol import ProbeSpec, Ready, Spec, Traced
from tests.fake_tracer import FakeTracer

if TYPE_CHECKING:
    from typing_extensions import Self

STEP_S = 0.5  # how long a step takes there: a shorter deadline is missed
BASE_BYTES = 350_000_000

_LEANER = {
    Optimizer.ADAMW_8BIT: 0.5, Optimizer.ADAMW_8BIT_BF16: 0.5, Optimizer.ADAMW_4BIT_BF16: 0.4,
    Optimizer.ADALOMO: 0.1, Optimizer.LOMO: 0.1,
}  # fmt: skip
"""The share of AdamW's states that is left."""


def peak_bytes(strategy: Strategy) -> int:
    """Less with each ZeRO stage, with LoRA, with checkpointing and with a lean optimizer; more with each row."""
    rung = strategy.rung
    states = 40_000_000 if rung.method is Method.LORA else 240_000_000 // max(1, rung.zero_stage)
    states = round(_LEANER.get(rung.optimizer, 1.0) * states)
    row = 50_000_000 - round(30_000_000 * rung.gradient_checkpointing.share)
    return BASE_BYTES + states + row * strategy.micro_batch


def tokens_per_s(strategy: Strategy) -> float:
    """More with more rows, less with what saves memory; LoRA is faster."""
    rung = strategy.rung
    factor = 1.3 if rung.method is Method.LORA else 1.0
    factor *= 1 - 0.25 * rung.gradient_checkpointing.share
    factor *= {0: 0.99, 1: 1.0, 2: 0.97, 3: 0.6}[rung.zero_stage]
    return 1000 * factor * strategy.micro_batch / (strategy.micro_batch + 1)


def outcome(spec: ProbeSpec, capacity_bytes: int) -> Outcome:
    """What the probe says on devices of `capacity_bytes` each."""
    strategy = spec.job.strategy
    held, limit = peak_bytes(strategy), min(capacity_bytes, spec.job.memory_limit_bytes or capacity_bytes)
    if held > limit:
        return OutOfMemory(0, Phase.BACKWARD, Place.DEVICE, "can't allocate memory", held - limit, limit)
    speed = tokens_per_s(strategy)
    step_s = 1000 / speed
    micro_step_s = step_s / strategy.gradient_accumulation
    is_outpaced = spec.least_tokens_per_s is not None and speed < spec.least_tokens_per_s
    return Measured(
        held, held, speed, step_s, micro_step_s, 0.0, BASE_BYTES, step_count=1 if is_outpaced else 3,
        is_outpaced=is_outpaced,
    )  # fmt: skip


@dataclass
class SimulatedMachine:
    """What agents of a test run on, and what was asked of them; `on_ask` may raise what interrupts them."""

    capacity_bytes: int = 10**12
    lengths_tokens: tuple[int, ...] = (20, 40, 64)
    rows: RowCounts | None = None  # of the data
    on_ask: Callable[[Request | ProbeSpec], None] = lambda asked: None
    specs: list[ProbeSpec] = field(default_factory=list)  # of every probe and rehearsal that was begun
    survey_count: int = 0
    foreseen_tokens: int | None = (
        None  # the longest row, as a sample has it taken to be; None: rows are counted at once
    )
    probes_until_counted: int = 0  # and then the rows are
    refuses_rows: bool = False  # when they are counted
    running_count: int = 0  # agents between the start and the end of their `with`
    tracer: FakeTracer = field(default_factory=FakeTracer)

    def start_agent(self, **_: Any) -> FakeAgent:
        return FakeAgent(self)

    def start_tracer(self, log_path: Path) -> FakeAgent:
        return FakeAgent(self)


class Surroundings(Protocol):
    """What a simulated agent runs on."""

    running_count: int
    specs: list[Any]

    @property
    def on_ask(self) -> Callable[[Any], None]: ...


class SimulatedAgent:
    """What the real one does around a probe: `with`, the scratch folder, the log, and the heartbeats."""

    def __init__(self, there: Surroundings) -> None:
        self._there = there

    def __enter__(self) -> Self:
        self._there.running_count += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._there.running_count -= 1

    def wait_ready(self) -> Ready:
        return Ready(0.0)

    def _answer(self, spec: Spec, on_heartbeat: OnHeartbeat, answer: Callable[[], Outcome]) -> Outcome:
        self._there.specs.append(spec)
        Path(spec.scratch_path).mkdir(parents=True)
        try:
            self._there.on_ask(spec)
            Path(spec.log_path).write_text(f"{spec.job.strategy}\n")
            if spec.heartbeat_timeout_s < STEP_S:
                return TimedOut(0, Phase.START, spec.heartbeat_timeout_s)
            if isinstance(spec, ProbeSpec) and (spec.step_silence_s or STEP_S) < STEP_S:
                return TimedOut(0, Phase.FORWARD, spec.step_silence_s or 0.0)
            outcome = answer()
            if isinstance(outcome, (Measured, OutOfMemory)):
                for phase in (Phase.BUILD, Phase.INITIALIZE, Phase.FORWARD, Phase.BACKWARD):
                    on_heartbeat(phase)
            if isinstance(outcome, Measured) and isinstance(spec, ProbeSpec) and spec.job.request.has_evaluation:
                on_heartbeat(Phase.EVALUATE)
            return outcome
        finally:
            shutil.rmtree(spec.scratch_path)


class FakeAgent(SimulatedAgent):
    """A TrainingProber."""

    def __init__(self, machine: SimulatedMachine) -> None:
        super().__init__(machine)
        self._machine = machine

    def survey(self, request: Request, *, log_path: Path, patience_s: float | None = None, **_: object) -> DataProfile:
        self._machine.survey_count += 1
        self._machine.on_ask(request)
        if request.data is not None:
            _check(Path(request.data))
        lengths, foreseen = self._machine.lengths_tokens, self._machine.foreseen_tokens
        source = request.data or "the sample that ships"
        self._profile = DataProfile(source, "text", 100, 0, lengths[-1], lengths, rows=self._machine.rows)
        if patience_s is None or foreseen is None:
            return self._profile
        return replace(self._profile, longest_tokens=foreseen, rows=None, is_foreseen=True)

    def surveyed(self, *, is_awaited: bool) -> DataProfile | None:
        if not is_awaited and len(self._machine.specs) < self._machine.probes_until_counted:
            return None
        if self._machine.refuses_rows:
            raise UsageError("row 7 is broken")
        return self._profile

    def check_inputs(self, request: Request, *, log_path: Path) -> None:
        self._machine.tracer.check_inputs(request, log_path=log_path)

    def describe(self, request: Request, *, log_path: Path) -> ModelFacts:
        return self._machine.tracer.describe(request, log_path=log_path)

    def trace(self, request: Request, micro_steps: Sequence[MicroStep], *, log_path: Path, **_: object) -> Traced:
        return self._machine.tracer.trace(request, micro_steps, log_path=log_path)

    def probe(self, spec: ProbeSpec, on_heartbeat: OnHeartbeat) -> Outcome:
        return self._answer(spec, on_heartbeat, lambda: outcome(spec, self._machine.capacity_bytes))

    def rehearse(self, specs: Sequence[ProbeSpec], on_heartbeat: OnRehearsalHeartbeat) -> tuple[Outcome, ...]:
        assert {spec.job.is_rehearsal for spec in specs} == {True}
        return tuple(self.probe(spec, partial(on_heartbeat, spec.job.strategy)) for spec in specs)


def _check(data: Path) -> None:
    for number, line in enumerate(data.read_text().splitlines(), 1):
        try:
            json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{data}, line {number}: {error}") from error


IMPLEMENTS: type[TrainingProber] = FakeAgent
