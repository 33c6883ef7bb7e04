"""Traces made side by side: the micro-steps of one model, dealt out to processes on the cores that there are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext

from autofit.domain.trace import MicroStep
from autofit.domain.units import format_seconds
from autofit.probing.protocol import (
    Message,
    Refused,
    Traced,
    TraceFailure,
    TraceModel,
    TraceProgress,
    read_message,
    to_line,
)
from autofit.worker.agent.fork_server import fork
from autofit.worker.agent.line_reader import LineReader, wait_or_interrupt
from autofit.worker.agent.trace_process import trace_main

PRELOAD = ("autofit.worker.agent.trace_preload",)

Send = Callable[[Message], None]


@dataclass(frozen=True)
class Patience:
    """How long one waits for traces (s)."""

    trace_s: float = 60.0  # for the next trace of a process; one takes seconds
    all_s: float = 300.0
    progress_s: float = 5.0  # between two words that it goes on


def trace_in_children(
    context: ForkServerContext, command: TraceModel, commands: LineReader, send: Send, patience: Patience = Patience()
) -> Message:
    """Traces the command's micro-steps, in their order, and sends TraceProgress meanwhile; Refused says why the model
    cannot be read at all. A micro-step that takes too long has no trace, and neither have those behind it in its
    process; what is there by then is kept."""
    count = min(len(os.sched_getaffinity(0)), len(command.micro_steps))
    shares = dealt(command.micro_steps, count)
    pool = _Pool([_Child(context, command, share) for share in shares], patience, send)
    try:
        answers = pool.wait(commands)
    finally:
        pool.end()
    refused = next((answer for answer in answers if isinstance(answer, Refused)), None)
    traced = [answer for answer in answers if isinstance(answer, Traced)]
    return refused or _in_order(traced, command.micro_steps)


def dealt(micro_steps: Sequence[MicroStep], count: int) -> list[tuple[MicroStep, ...]]:
    """The shares of `count` processes, dealt out there and back: neighbours often differ in what makes a trace take
    twice as long, in autocast or in checkpointing, and dealt out in turn one process would have all of those. What runs
    on one model stays together where there is more than one model a process."""
    kinds: dict[MicroStep, list[MicroStep]] = {}
    for step in micro_steps:
        kinds.setdefault(step.of_any_rows, []).append(step)
    lots = list(kinds.values()) if len(kinds) > count else [[step] for step in micro_steps]
    back = 2 * count - 1
    shares = ([*lots[first :: 2 * count], *lots[back - first :: 2 * count]] for first in range(count))
    return [tuple(step for lot in share for step in lot) for share in shares]


def _in_order(answers: Sequence[Traced], micro_steps: Sequence[MicroStep]) -> Traced:
    place = {step: index for index, step in enumerate(micro_steps)}
    traces = (trace for answer in answers for trace in answer.traces)
    failures = (failure for answer in answers for failure in answer.failures)
    return Traced(
        tuple(sorted(traces, key=lambda trace: place[trace.of])),
        tuple(sorted(failures, key=lambda failure: place[failure.of])),
    )


class _Child:
    """One process and its share."""

    def __init__(self, context: ForkServerContext, command: TraceModel, share: Sequence[MicroStep]) -> None:
        self.left = list(share)
        self.log_path = command.log_path
        own = TraceModel(command.request, tuple(share), command.log_path)
        self.process, self.connection = fork(context, trace_main, to_line(own))
        self.heard_at_s = time.monotonic()

    def receive(self) -> Message:
        """The next answer: one micro-step's, or why there will be none."""
        self.heard_at_s = time.monotonic()
        try:
            answer = read_message(self.connection.recv_bytes())
        except EOFError:
            return self.give_up(f"the process that traced it ended without an answer; see {self.log_path}")
        if isinstance(answer, Refused):
            self.left.clear()
        else:
            self.left.pop(0)
        return answer

    def give_up(self, why: str) -> Traced:
        self.process.kill()
        failures = tuple(TraceFailure(step, why) for step in self.left)
        self.left.clear()
        return Traced((), failures)


class _Pool:
    """The processes of one command."""

    def __init__(self, children: list[_Child], patience: Patience, send: Send) -> None:
        self._children, self._patience, self._send = children, patience, send
        self._began_at_s = self._told_at_s = time.monotonic()
        self._answers: list[Message] = []

    def wait(self, commands: LineReader) -> list[Message]:
        """The answers of all processes, a few for each."""
        while waited := [child for child in self._children if child.left]:
            ready = wait_or_interrupt([child.connection for child in waited], commands, self._until_next_s(waited))
            self._answers += [child.receive() for child in waited if child.connection in ready]
            now_s = time.monotonic()
            self._answers += [child.give_up(why) for child in waited if (why := self._why_over(child, now_s))]
            self._tell(now_s)
        return self._answers

    def end(self) -> None:
        for child in self._children:
            child.process.kill()
            child.process.join()

    def _until_next_s(self, waited: Sequence[_Child]) -> float:
        patience = self._patience
        next_s = min(child.heard_at_s for child in waited) + patience.trace_s
        ends_s = (next_s, self._began_at_s + patience.all_s, self._told_at_s + patience.progress_s)
        return max(0.0, min(ends_s) - time.monotonic())

    def _why_over(self, child: _Child, now_s: float) -> str | None:
        if not child.left:
            return None
        if now_s - child.heard_at_s >= self._patience.trace_s:
            return f"a trace took longer than {format_seconds(self._patience.trace_s)}"
        if now_s - self._began_at_s >= self._patience.all_s:
            return f"all traces together took longer than {format_seconds(self._patience.all_s)}"
        return None

    def _tell(self, now_s: float) -> None:
        if now_s - self._told_at_s >= self._patience.progress_s:
            self._told_at_s = now_s
            done = sum(len(one.traces) + len(one.failures) for one in self._answers if isinstance(one, Traced))
            self._send(TraceProgress(done, now_s - self._began_at_s))
