"""The steps of a probe: which are run, which are measured, and whose rows are real."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from builders import make_request

from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Attention, Dtype, Method, Offload, Rung, Strategy
from autofit.domain.workload import BatchShape
from autofit.probing.protocol import Job, ProbeSpec
from autofit.worker import probe
from autofit.worker.measuring import MAX_MEASURED_STEPS
from autofit.worker.probe import schedule
from autofit.worker.step_meter import StepMeter

RANKS, ACCUMULATION = 2, 3
STRATEGY = Strategy(Rung(Method.FULL, 2, Offload.NONE, False, Attention.SDPA, Dtype.BF16), 4, ACCUMULATION)
WORST = BatchShape(512, 511.25)
TYPICAL = tuple(BatchShape(tokens, tokens / 2) for tokens in range(64, 512, 16))


def spec(kind: DeviceKind, typical: tuple[BatchShape, ...], *narrower: BatchShape) -> ProbeSpec:
    job = Job(make_request(tokens=512, global_batch=24), STRATEGY, "{}", kind, RANKS)
    return ProbeSpec(job, (*narrower, WORST), typical, "scratch", "log", 60.0, True)


def test_on_a_gpu_uneven_rows_are_met_before_they_are_measured() -> None:
    steps = schedule(spec(DeviceKind.CUDA, TYPICAL), ACCUMULATION)
    assert [step.is_measured for step in steps[:4]] == [False, False, False, True]
    assert steps[0].shapes == steps[1].shapes == (WORST,) * RANKS * ACCUMULATION
    assert steps[2].shapes == steps[3].shapes == TYPICAL[: RANKS * ACCUMULATION]
    assert sum(step.is_measured for step in steps) == MAX_MEASURED_STEPS


def test_rows_of_one_length_cost_no_step_more() -> None:
    steps = schedule(spec(DeviceKind.CUDA, (BatchShape(510, 510.0),)), ACCUMULATION)
    assert [step.is_measured for step in steps] == [False] * 2 + [True] * MAX_MEASURED_STEPS


def test_on_a_cpu_each_width_is_a_worst_case_already() -> None:
    narrower = [BatchShape(width, float(width)) for width in range(64, 512, 32)]
    steps = schedule(spec(DeviceKind.CPU, TYPICAL, *narrower), ACCUMULATION)
    first = next(number for number, step in enumerate(steps) if step.is_measured)
    assert all(step.is_measured for step in steps[first:])
    assert {shape for step in steps[:first] for shape in step.shapes} == {*narrower, WORST}


def test_a_rank_makes_no_rows_that_others_read() -> None:
    shapes = [shape for step in schedule(spec(DeviceKind.CUDA, TYPICAL), ACCUMULATION) for shape in step.shapes]
    for rank in range(RANKS):
        own = probe._read_by(rank, RANKS, shapes)
        assert own[rank::RANKS] == shapes[rank::RANKS]
        assert {shape.padded_tokens for shape in own[1 - rank :: RANKS]} == {1}


class Steps:
    """Calls the callbacks as Trainer does, by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now_s)

    def run(self, durations_s: list[float], *callbacks: Any) -> int:
        """How many steps were run until a callback ended it, each of micro-batches of one of `durations_s`."""
        arguments, control = SimpleNamespace(device="cpu"), SimpleNamespace(should_training_stop=False)
        state = SimpleNamespace(global_step=0)

        def call(name: str, **more: Any) -> None:
            for callback in callbacks:
                getattr(callback, name)(arguments, state, control, **more)

        call("on_train_begin")
        tokens = 0
        for duration_s in durations_s:
            call("on_step_begin")
            for _ in range(ACCUMULATION - 1):
                self.now_s += duration_s
                call("on_substep_end")
            self.now_s += duration_s
            state.global_step += 1
            call("on_step_end")
            tokens += 100 * state.global_step
            call("on_log", logs={"loss": 1.0, "num_tokens": tokens})
            if control.should_training_stop:
                break
        return state.global_step


def test_only_measured_steps_count_and_their_number_is_that_of_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = schedule(spec(DeviceKind.CUDA, TYPICAL), ACCUMULATION)
    measured = [number for number, step in enumerate(steps, 1) if step.is_measured]
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: None)
    meter = StepMeter(measured=frozenset(measured))
    pace = probe._Pace(SimpleNamespace(step=0), 2, measured, 12.0)  # type: ignore[arg-type]
    slow_if_new = [1.0 if step.is_measured or number < 2 else 10.0 for number, step in enumerate(steps)]
    count = Steps(monkeypatch).run(slow_if_new, pace, meter)
    assert count == measured[3]  # 12 s of 3 s each
    assert meter.first_s == meter.middle_s == meter.last_s == [1.0] * 4
    assert meter.tokens_per_step == 100 * sum(measured[:4]) / 4


def test_after_a_warm_up_every_step_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a full run."""
    meter = StepMeter(warm_up_steps=2)
    Steps(monkeypatch).run([9.0, 9.0, 1.0, 1.0], meter)
    assert meter.last_s == [1.0, 1.0]
    assert meter.tokens_per_step == 350
    assert replace(meter, tokens_s=6.0).tokens_per_s == 700 / 6
