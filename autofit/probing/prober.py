"""What runs probes, as it is for those who ask: the agent here, an agent on every node of a job, a test's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from autofit.domain.model import ModelFacts
from autofit.domain.outcome import Outcome, Phase
from autofit.domain.request import Request
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.domain.trace import MicroStep
from autofit.domain.workload import DataProfile
from autofit.probing.protocol import ProbeSpec, Ready, ScriptSpec, Traced, TraceProgress
from autofit.probing.survey_course import OnRowsMade

OnHeartbeat = Callable[[Phase], None]
OnRehearsalHeartbeat = Callable[[Strategy, Phase], None]
OnTraceProgress = Callable[[TraceProgress], None]

SpecT = TypeVar("SpecT", ProbeSpec, ScriptSpec, contravariant=True)


class Prober(Protocol[SpecT]):
    """Runs probes with all ranks of a job."""

    def wait_ready(self) -> Ready:
        """Waits until everything is imported; UsageError when a build that it needs is kept from its start."""

    def probe(self, spec: SpecT, on_heartbeat: OnHeartbeat) -> Outcome:
        """Runs one probe to its end, whatever that is. The scratch folder is gone then."""


class Tracer(Protocol):
    """Builds a model without memory, and runs it on fake tensors; looks at what begins a training, too."""

    def check_inputs(self, request: Request, *, log_path: Path) -> None:
        """Checks the first rows of the request's data and its extra arguments; UsageError for what would end a start
        before anything is tried."""

    def describe(self, request: Request, *, log_path: Path) -> ModelFacts:
        """What the class of the request's model says of it; UsageError when it is none that can be trained, another
        AutofitError when it cannot be asked."""

    def trace(
        self,
        request: Request,
        micro_steps: Sequence[MicroStep],
        *,
        log_path: Path,
        on_progress: OnTraceProgress = lambda progress: None,
    ) -> Traced:
        """The traces of the request's model, and why some have none; UsageError when there is no such model."""


class TrainingProber(Prober[ProbeSpec], Tracer, Protocol):
    """Probes autofit's own training, with what is to be known of its data and its model before."""

    def survey(
        self,
        request: Request,
        *,
        log_path: Path,
        most_processes: int = 1,
        patience_s: float | None = None,
        on_rows: OnRowsMade = lambda made: None,
    ) -> DataProfile:
        """The profile of the request's data, whose rows so many processes make; UsageError when something of it must be
        changed first.

        After `patience_s` what a sample foretells, where there is such: the survey goes on, and UsageError may come of
        whatever is asked meanwhile.
        """

    def surveyed(self, *, is_awaited: bool) -> DataProfile | None:
        """The profile of a survey that went on; None while it does, unless it `is_awaited`. UsageError as of
        `survey`."""

    def rehearse(self, specs: Sequence[ProbeSpec], on_heartbeat: OnRehearsalHeartbeat) -> tuple[Outcome, ...]:
        """Runs rehearsals side by side, each to its own end; their outcomes in the order of `specs`.

        Each spec brings its own device, scratch and log.
        """


class ScriptProber(Prober[ScriptSpec], Protocol):
    """Probes a script that somebody else wrote, on whatever nodes the job has."""

    @property
    def master_address(self) -> str:
        """The address at which the ranks of a probe meet."""

    def free_port(self) -> int:
        """A port at the master's address that nobody listens on."""

    def put_file(self, path: Path, text: str) -> None:
        """Writes a file onto every node, whole at every moment."""

    def inspect(self, spec: ScriptSpec, on_heartbeat: OnHeartbeat) -> tuple[Outcome, ScriptFacts | None]:
        """Probes the script, without a strategy as it is; what it showed of itself is None where it came to no
        `deepspeed.initialize`."""
