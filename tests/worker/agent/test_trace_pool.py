"""Traces made side by side: what one process does not finish keeps nothing from the others."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.trace import MicroStep, Trace
from autofit.probing.protocol import Message, Refused, Traced, TraceModel, TraceProgress, read_command, to_line
from autofit.worker.agent import trace_pool
from autofit.worker.agent.line_reader import LineReader
from autofit.worker.agent.trace_pool import Patience, dealt, trace_in_children
from tests.builders import make_request

STEP = MicroStep(None, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CPU, 1, 64, False)
STEPS = tuple(replace(STEP, tokens=64 * place) for place in range(1, 5))
HANGS, DIES = 3 * 64, 5 * 64  # widths at which the process of these tests does so


def fake_process(line: bytes, answer: Connection) -> None:
    command = read_command(line)
    assert isinstance(command, TraceModel)
    for step in command.micro_steps:
        if step.tokens == HANGS:
            threading.Event().wait()
        if step.tokens == DIES:
            os._exit(1)
        answer.send_bytes(to_line(Traced((Trace(step, (), ()),))))


def refusing_process(line: bytes, answer: Connection) -> None:
    answer.send_bytes(to_line(Refused("there is no such model")))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[LineReader]:
    monkeypatch.setattr(trace_pool, "trace_main", fake_process)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    reading, writing = os.pipe()
    yield LineReader(reading)
    os.close(reading)
    os.close(writing)


def ask(commands: LineReader, steps: tuple[MicroStep, ...], patience: Patience) -> tuple[Message, list[Message]]:
    sent: list[Message] = []
    context: Any = multiprocessing.get_context("fork")
    command = TraceModel(make_request("a model", 64), steps, "trace.log")
    return trace_in_children(context, command, commands, sent.append, patience), sent


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_process_has_as_much_of_what_is_dear_every_other_time(count: int) -> None:
    steps = tuple(replace(STEP, tokens=64 * place, is_autocast=place % 2 == 0) for place in range(12))
    shares = dealt(steps, count)
    assert sorted(step.tokens for share in shares for step in share) == [step.tokens for step in steps]
    dear = [sum(step.is_autocast for step in share) for share in shares]
    assert max(dear) - min(dear) <= 1


def test_what_runs_on_one_model_stays_together_where_there_are_models_enough() -> None:
    steps = tuple(replace(STEP, tokens=64 * kind, micro_batch=rows) for kind in range(6) for rows in (1, 2, 4))
    few, many = dealt(steps, 2), dealt(steps, 6)
    assert [[step.micro_batch for step in share] for share in few] == [[1, 2, 4] * 3] * 2
    assert [len(share) for share in many] == [3] * 6
    assert {share[0].of_any_rows for share in many} != {step.of_any_rows for step in many[0]}
    assert sorted(step for share in many for step in share) == sorted(steps)


def test_what_takes_too_long_is_given_up_alone_and_meanwhile_one_hears_of_it(commands: LineReader) -> None:
    """One process has the first and the fourth micro-step, the other one the second and the third."""
    said, sent = ask(commands, STEPS, Patience(trace_s=2.0, progress_s=0.2))
    assert isinstance(said, Traced)
    assert [one.of for one in said.traces] == [STEPS[0], STEPS[1], STEPS[3]]
    assert [(one.of, one.why) for one in said.failures] == [(STEPS[2], "a trace took longer than 2.0 s")]
    assert all(isinstance(one, TraceProgress) for one in sent)
    assert isinstance(sent[-1], TraceProgress)
    assert sent[-1].done_count == 3


def test_all_of_them_have_a_limit_too(commands: LineReader) -> None:
    said, sent = ask(commands, STEPS, Patience(all_s=1.0))
    assert isinstance(said, Traced)
    assert len(said.traces) == 3
    assert said.failures[0].why == "all traces together took longer than 1.0 s"
    assert sent == []


def test_a_process_that_dies_leaves_what_it_has_said(commands: LineReader) -> None:
    steps = (*STEPS[:2], replace(STEP, tokens=DIES), STEPS[3])
    said, _ = ask(commands, steps, Patience())
    assert isinstance(said, Traced)
    assert [one.of for one in said.traces] == [STEPS[0], STEPS[1], STEPS[3]]
    assert [one.of for one in said.failures] == [steps[2]]
    assert "trace.log" in said.failures[0].why


def test_a_model_that_cannot_be_read_is_refused(commands: LineReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_pool, "trace_main", refusing_process)
    assert ask(commands, STEPS, Patience())[0] == Refused("there is no such model")
