"""Traces made side by side: the micro-steps of one model, dealt out to processes on the cores that there are."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

from autofit.domain.errors import UsageError
from autofit.domain.trace import MicroStep, Trace
from autofit.probing.protocol import Message, Refused, Traced, TraceFailure, TraceModel, read_message, to_line
from autofit.worker.agent.fork_server import fork
from autofit.worker.agent.line_reader import LineReader, wait_or_interrupt

PRELOAD = ("autofit.worker.agent.trace_preload",)


def trace_in_children(context: ForkServerContext, command: TraceModel, commands: LineReader) -> Message:
    """Traces the command's micro-steps, in their order; Refused says why the model cannot be read at all."""
    count = min(len(os.sched_getaffinity(0)), len(command.micro_steps))
    shares = [command.micro_steps[start::count] for start in range(count)]
    answers = _ask([_start(context, command, share) for share in shares], commands)
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    if refusals:
        return refusals[0]
    traced = [answer for answer in answers if isinstance(answer, Traced)]
    place = {step: index for index, step in enumerate(command.micro_steps)}
    traces = (trace for answer in traced for trace in answer.traces)
    failures = (failure for answer in traced for failure in answer.failures)
    return Traced(
        tuple(sorted(traces, key=lambda trace: place[trace.of])),
        tuple(sorted(failures, key=lambda failure: place[failure.of])),
    )


class _Child:
    """One process and its share."""

    def __init__(self, context: ForkServerContext, command: TraceModel) -> None:
        self.command = command
        self.process, self.answer = fork(context, _main, to_line(command))

    def receive(self) -> Message:
        try:
            return read_message(self.answer.recv_bytes())
        except EOFError:
            why = f"the process that traced it ended without an answer; see {self.command.log_path}"
            return Traced((), tuple(TraceFailure(step, why) for step in self.command.micro_steps))


def _start(context: ForkServerContext, command: TraceModel, share: Sequence[MicroStep]) -> _Child:
    return _Child(context, TraceModel(command.request, tuple(share), command.log_path))


def _ask(children: list[_Child], commands: LineReader) -> list[Message]:
    answers = []
    try:
        for child in children:  # those that are ready early wait in their pipes
            wait_or_interrupt([child.answer], commands)
            answers.append(child.receive())
        return answers
    finally:
        for child in children:
            child.process.kill()
            child.process.join()


def _main(line: bytes, answer: Connection) -> None:
    from autofit.probing.protocol import read_command
    from autofit.worker.agent.forked_process import settle
    from autofit.worker.rank.lifecycle import set_threads

    command = read_command(line)
    assert isinstance(command, TraceModel)
    settle(command.log_path)
    set_threads(len(os.sched_getaffinity(0)))
    answer.send_bytes(to_line(run(command)))


def run(command: TraceModel) -> Traced | Refused:
    """Traces in this process; a micro-step that cannot be traced does not keep the others from it."""
    import transformers

    from autofit.worker.model.configuration import load_config
    from autofit.worker.model.unbuildable import Unbuildable, first_sentence
    from autofit.worker.trace.micro_step_trace import trace

    transformers.logging.set_verbosity_error()
    try:
        config = load_config(command.request.model, trust_remote_code=command.request.trust_remote_code)
    except UsageError as error:
        return Refused(str(error))
    traces: list[Trace] = []
    failures: list[TraceFailure] = []
    for step in command.micro_steps:
        try:
            traces.append(trace(config, step))
        except Unbuildable as error:
            failures.append(TraceFailure(step, str(error), is_unbuildable=True))
        except Exception as error:  # of transformers, PEFT or torch: any of them means that this one has no trace
            traceback.print_exc()  # into the log
            why = first_sentence(error) or "its code does not run on tensors without memory"
            failures.append(TraceFailure(step, why))
    return Traced(tuple(traces), tuple(failures))
