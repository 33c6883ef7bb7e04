"""A process that traces the micro-steps of one model, one after the other."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

from autofit.domain.errors import UsageError
from autofit.probing.protocol import Refused, Traced, TraceFailure, TraceModel, read_command, to_line


def trace_main(line: bytes, answer: Connection) -> None:
    """The entry of the process: each answer is sent as soon as it is there."""
    from autofit.worker.agent.forked_process import settle
    from autofit.worker.rank.lifecycle import set_threads

    command = read_command(line)
    assert isinstance(command, TraceModel)
    settle(command.log_path)
    set_threads(len(os.sched_getaffinity(0)))
    for one in traced(command):
        answer.send_bytes(to_line(one))


def traced(command: TraceModel) -> Iterator[Traced | Refused]:
    """Traces in this process: one answer for each micro-step, in their order, or Refused alone. A micro-step that
    cannot be traced does not keep the others from it."""
    import transformers

    from autofit.worker.model.configuration import load_config
    from autofit.worker.model.unbuildable import BuildRefused
    from autofit.worker.trace.micro_step_trace import ModelTracer

    transformers.logging.set_verbosity_error()
    request = command.request
    scores = request.task.traits.scores
    try:
        config = load_config(request.model, trust_remote_code=request.trust_remote_code, scores=scores)
    except UsageError as error:
        yield Refused(str(error))
        return
    with closing(ModelTracer(config)) as tracer:
        for step in command.micro_steps:
            try:
                yield Traced((tracer.trace(step),))
            except BuildRefused as error:
                yield Traced((), (TraceFailure(step, str(error), is_unbuildable=True),))
            except Exception as error:  # of transformers, PEFT or torch: any of them means that this one has no trace
                traceback.print_exc()  # into the log
                yield Traced((), (TraceFailure(step, _why(error)),))


def _why(error: Exception) -> str:
    """What people are told: a library's own sentence, or the place where the model's code stopped."""
    from autofit.worker.model.unbuildable import first_sentence

    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name} line {place.lineno}"
    return first_sentence(error) or f"its code does not run on tensors without memory, {where}"
