"""The real tracer without its process, which takes longer to start than a small model to trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from autofit.domain.errors import UsageError
from autofit.domain.model import ModelFacts
from autofit.domain.request import Request
from autofit.domain.trace import MicroStep
from autofit.probing.prober import Tracer
from autofit.probing.protocol import Refused, Traced, TraceModel
from autofit.worker.agent.trace_process import traced
from autofit.worker.model.description import describe
from autofit.worker.training.input_check import check_inputs


class InProcessTracer:
    def check_inputs(self, request: Request, *, log_path: Path) -> None:
        check_inputs(request)

    def describe(self, request: Request, *, log_path: Path) -> ModelFacts:
        return describe(request)

    def trace(self, request: Request, micro_steps: Sequence[MicroStep], *, log_path: Path, **_: object) -> Traced:
        said = list(traced(TraceModel(request, tuple(micro_steps), str(log_path))))
        refused = next((one for one in said if isinstance(one, Refused)), None)
        if refused is not None:
            raise UsageError(refused.message)
        return Traced(
            tuple(trace for one in said for trace in one.traces),
            tuple(failure for one in said for failure in one.failures),
        )


@contextmanager
def start_tracer(log_path: Path) -> Iterator[Tracer]:
    yield InProcessTracer()
