"""What the class of a request's model says of it, and its traces: remembered, or had from a tracer."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType

from autofit.app.tools import StartTracer
from autofit.domain.errors import AutofitError, UsageError
from autofit.domain.event import Tell
from autofit.domain.model import ModelFacts
from autofit.domain.request import Request
from autofit.domain.trace import MicroStep, Trace, Unbuildable
from autofit.domain.units import format_seconds
from autofit.inputs.model_files import model_source
from autofit.probing.prober import Tracer
from autofit.probing.protocol import TraceProgress
from autofit.process.temporary_folder import temporary_folder
from autofit.store import Store
from autofit.store.fingerprint import facts_fingerprint, trace_fingerprint
from autofit.store.versions import versions

TRACER_VERSION = 11
"""Rises when a trace of the same micro-step would say something else."""

DESCRIBER_VERSION = 3
"""Rises when the facts of the same model would say something else."""


class TraceProvider:
    """The facts and the traces of one request's model, from `with` to its end; the tracer starts when the first of them
    is missing."""

    def __init__(
        self, request: Request, store: Store, start: StartTracer, tell: Tell, tell_at_once: Tell = lambda text: None
    ) -> None:
        """Takes who hears what has no trace, and who hears at once that tracing goes on."""
        self._request, self._store, self._start, self._tell = request, store, start, tell
        self._tell_at_once = tell_at_once
        self._tracer: Tracer | None = None
        self._is_traceable = True
        self._quiet_until_s = 0.0  # of the tracing
        self.unbuildable: tuple[Unbuildable, ...] = ()  # met while tracing
        self._open = ExitStack()

    def __enter__(self) -> TraceProvider:
        self._folder = self._open.enter_context(temporary_folder("autofit-trace-"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def facts(self) -> ModelFacts | None:
        """What the model's class says of it, None where nobody could ask it, which is told; UsageError when it is none
        that can be trained."""
        request = self._request
        fingerprint = facts_fingerprint(
            model_source(request),
            versions=versions(),
            describer_version=DESCRIBER_VERSION,
            lora=request.lora,
            scores=request.task.traits.scores,
        )
        known = self._store.get_facts(fingerprint)
        if known is not None:
            return known
        try:
            facts = self._started().describe(request, log_path=self._folder / "description.log")
        except UsageError:
            raise
        except AutofitError as error:
            self._is_traceable = False
            self._tell(_closed_form_note("The model cannot be looked at", str(error)))
            return None
        self._store.put_facts(fingerprint, facts)
        return facts

    def check_inputs(self) -> None:
        """Has the first rows of the request's data and the words after `--` looked at; UsageError for what is wrong
        with them."""
        self._started().check_inputs(self._request, log_path=self._folder / "inputs.log")

    def traces(self, micro_steps: Iterable[MicroStep]) -> tuple[Trace, ...]:
        """The traces of `micro_steps` that can be had; what cannot be traced is told once."""
        wanted, fingerprint = tuple(dict.fromkeys(micro_steps)), _trace_fingerprint(self._request)
        known = self._store.get_traces(fingerprint, wanted)
        missing = tuple(step for step in wanted if step not in {trace.of for trace in known})
        if not missing or not self._is_traceable:
            return known
        new = self._traced(missing)
        self._store.put_traces(fingerprint, new)
        return (*known, *new)

    def _traced(self, missing: tuple[MicroStep, ...]) -> tuple[Trace, ...]:
        self._quiet_until_s = 0.0
        try:
            answer = self._started().trace(
                self._request,
                missing,
                log_path=self._folder / "trace.log",
                on_progress=lambda progress: self._tell_progress(progress, len(missing)),
            )
        except AutofitError as error:
            self._is_traceable = False
            self._tell(_closed_form_note("The model cannot be traced", str(error)))
            return ()
        self.unbuildable += tuple(Unbuildable(one.of, one.why) for one in answer.failures if one.is_unbuildable)
        untraced = [one for one in answer.failures if not one.is_unbuildable]
        if untraced:
            what = f"{len(untraced)} of {len(missing)} micro-steps cannot be traced"
            self._tell(_closed_form_note(what, untraced[0].why))
        return answer.traces

    def _tell_progress(self, progress: TraceProgress, count: int) -> None:
        """Tells that tracing goes on, each time after twice as long as before."""
        if progress.passed_s >= self._quiet_until_s:
            self._quiet_until_s = 2 * progress.passed_s
            self._tell_at_once(_progress_note(progress, count))

    def _started(self) -> Tracer:
        if self._tracer is None:
            self._tracer = self._open.enter_context(self._start(self._folder / "agent.log"))
        return self._tracer


def _progress_note(progress: TraceProgress, count: int) -> str:
    """Says that tracing goes on."""
    done = f"{progress.done_count} of {count} micro-steps"
    return f"The model is traced on tensors without memory: {done} after {format_seconds(progress.passed_s)}."


def _closed_form_note(what: str, why: str) -> str:
    return f"{what} ({why.rstrip('.')}): activations are estimated by a formula that is far less exact."


def _trace_fingerprint(request: Request) -> str:
    return trace_fingerprint(
        model_source(request),
        versions=versions(),
        tracer_version=TRACER_VERSION,
        extra_arguments=request.training.extra_arguments,
    )
