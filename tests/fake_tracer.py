"""A tracer without torch: every micro-step is one layer, traced at once. It keeps the contract of the real one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autofit.domain.errors import InternalError, UsageError
from autofit.domain.knobs.attention import Attention
from autofit.domain.model import ModelFacts, ParameterGroup, Positions
from autofit.domain.outcome import Phase
from autofit.domain.request import Request
from autofit.domain.trace import MicroStep, Moment, Trace, Work
from autofit.planning.parameters import USUAL_TARGETS
from autofit.probing.prober import Tracer
from autofit.probing.protocol import Traced, TraceFailure

MODULES = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "all-linear", "auto"}


@dataclass
class FakeTracer:
    """`fails`: why no micro-step can be traced; `has_ended`: its process is gone."""

    parameter_count: int = 10_000_000
    row_bytes: int = 50_000_000  # that a row holds
    checkpointed_row_bytes: int = 20_000_000
    positions: Positions = Positions.ROTARY
    kernel_packages: tuple[str, ...] = ()
    unbuildable: tuple[Attention, ...] = ()  # kernels
    fails: str = ""
    has_ended: bool = False
    start_count: int = 0
    checked: list[Request] = field(default_factory=list)  # whose inputs were looked at

    @contextmanager
    def start(self, log_path: Path) -> Iterator[FakeTracer]:
        self.start_count += 1
        yield self

    def check_inputs(self, request: Request, *, log_path: Path) -> None:
        self.checked.append(request)

    def describe(self, request: Request, *, log_path: Path) -> ModelFacts:
        if self.has_ended:
            raise InternalError("the agent has ended")
        config = json.loads(Path(request.model, "config.json").read_text())
        if config["model_type"] == "llama9":
            raise UsageError(f"{request.model} is of the type {config['model_type']}, which nobody knows")
        whole = (ParameterGroup(self.parameter_count, 1, True, 2),)
        frozen = (ParameterGroup(self.parameter_count, 1, False, 2),)
        adapters = ParameterGroup(self.parameter_count * 3 // 100, 1, True, 2)
        return ModelFacts(
            json.dumps(config),
            whole,
            self.positions,
            USUAL_TARGETS,
            (*frozen, adapters),
            kernel_packages=self.kernel_packages,
        )

    def trace(self, request: Request, micro_steps: Sequence[MicroStep], *, log_path: Path, **_: object) -> Traced:
        if self.has_ended:
            raise InternalError("the agent has ended")
        failures = {step: self._failure(step) for step in micro_steps}
        return Traced(
            tuple(self._traced(step) for step, failure in failures.items() if failure is None),
            tuple(failure for failure in failures.values() if failure is not None),
        )

    def _failure(self, step: MicroStep) -> TraceFailure | None:
        if self.fails:
            return TraceFailure(step, self.fails)
        is_unbuildable = step.attention in self.unbuildable
        complaint = f"the model cannot be built: {step.attention.value}" if is_unbuildable else _complaint(step)
        return TraceFailure(step, complaint, is_unbuildable=True) if complaint else None

    def _traced(self, step: MicroStep) -> Trace:
        row_bytes = self.checkpointed_row_bytes if step.gradient_checkpointing.recomputes else self.row_bytes
        held_bytes = row_bytes * step.micro_batch
        trained = self.parameter_count if step.lora is None else self.parameter_count * 3 // 100
        forward = Work(2 * self.parameter_count * step.tokens * step.micro_batch, 10**7, 10**7, 30)
        twice = Work(2 * forward.matmul_flop, 2 * 10**7, 2 * 10**7, 60)
        moments = (
            Moment(Phase.FORWARD, held_bytes, 0, forward),
            Moment(Phase.BACKWARD, held_bytes, trained, twice),
            Moment(Phase.EVALUATE, held_bytes // 2, 0, forward),
        )
        groups: tuple[ParameterGroup, ...] = (ParameterGroup(self.parameter_count, 1, step.lora is None, 2),)
        if step.lora is not None:
            groups += (ParameterGroup(trained, 1, True, 2),)
        return Trace(step, moments, groups)


def _complaint(step: MicroStep) -> str:
    """Of a model with the modules of Llama."""
    unknown = set(() if step.lora is None else step.lora.target_modules) - MODULES
    return f"Target modules {sorted(unknown)} not found in the base model" if unknown else ""


IMPLEMENTS: type[Tracer] = FakeTracer
