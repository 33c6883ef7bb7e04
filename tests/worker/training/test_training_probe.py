"""The steps of a probe: which are run, which are measured, and whose rows are real."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.task import Task
from autofit.domain.workload import BatchShape
from autofit.planning.probe_steps import LONG_STEP_S, MAX_MEASURED_STEPS, MEASURE_S, MEMORY_STEPS
from autofit.probing.protocol import Job, ProbeSpec
from autofit.worker.rank.failure import KnownFailure
from autofit.worker.rank.measured_steps import Course, Pace, ProbedSteps
from autofit.worker.training import training_probe
from autofit.worker.training.probe_rows import memory_steps, read_by, schedule
from tests.builders import make_request, make_rung

RANKS, ACCUMULATION = 2, 3
STRATEGY = Strategy(
    make_rung(2),
    4,
    ACCUMULATION,
)
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


@pytest.mark.parametrize(("task", "rounds"), [(Task.SFT, 4), (Task.GRPO, 1)])
def test_a_longer_look_has_the_same_rows_again_for_steps_that_are_short(task: Task, rounds: int) -> None:
    asked = replace(spec(DeviceKind.CUDA, (WORST,)), measure_s=4 * MEASURE_S)
    asked = replace(asked, job=replace(asked.job, request=replace(asked.job.request, task=task)))
    steps = schedule(asked, ACCUMULATION)
    course = training_probe._course(asked, steps, ACCUMULATION)
    count = 4 * MAX_MEASURED_STEPS
    assert len(steps) == MEMORY_STEPS + count
    assert len(course.measured) == rounds * count
    again = [len(steps) + MEMORY_STEPS + 1] if rounds > 1 else []  # its first steps show the worst rows once more
    assert list(course.measured[count - 1 : count + 1]) == [len(steps), *again]


def test_on_a_cpu_each_width_is_a_worst_case_already() -> None:
    narrower = [BatchShape(width, float(width)) for width in range(64, 512, 32)]
    steps = schedule(spec(DeviceKind.CPU, TYPICAL, *narrower), ACCUMULATION)
    first = next(number for number, step in enumerate(steps) if step.is_measured)
    assert all(step.is_measured for step in steps[first:])
    assert {shape for step in steps[:first] for shape in step.shapes} == {*narrower, WORST}


def test_a_generation_has_prompts_of_one_width() -> None:
    """Whichever of them a rank is given, and it pads all that it is given to the longest."""
    narrower = [BatchShape(width, float(width)) for width in range(64, 512, 32)]
    asked = spec(DeviceKind.CPU, TYPICAL, *narrower)
    asked = replace(asked, job=replace(asked.job, request=replace(asked.job.request, task=Task.GRPO)))
    steps = schedule(asked, ACCUMULATION)
    first = next(number for number, step in enumerate(steps) if step.is_measured)
    assert [set(step.shapes) for step in steps[:first]] == [{shape} for shape in (*narrower, WORST)]
    assert memory_steps(asked, ACCUMULATION) == first


def test_a_rank_makes_no_rows_that_others_read() -> None:
    shapes = [shape for step in schedule(spec(DeviceKind.CUDA, TYPICAL), ACCUMULATION) for shape in step.shapes]
    for rank in range(RANKS):
        own = read_by(rank, RANKS, shapes)
        assert own[rank::RANKS] == shapes[rank::RANKS]
        assert {shape.padded_tokens for shape in own[1 - rank :: RANKS]} == {1}


def batch(tokens: int) -> Any:
    """The arguments of a forward pass: a row with a place of padding."""
    ids = torch.ones(1, tokens + 1, dtype=torch.long)
    return (), {"input_ids": ids, "attention_mask": torch.ones_like(ids).index_fill(1, torch.tensor([tokens]), 0)}


class Drive:
    """A probe's steps, told as an engine's watch and a trainer do, by a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, course: Course) -> None:
        self.now_s = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now_s)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: None)
        self.phases: list[Phase] = []
        self.heap: list[tuple[str, int]] = []  # what it was told, and after how many steps
        rank: Any = SimpleNamespace(step=0, enter=self.phases.append)
        rank.keep_freed = lambda: self.heap.append(("keep", rank.step))
        rank.meter = SimpleNamespace(give_back=lambda: self.heap.append(("give back", rank.step)))
        self.windows: list[float] = []  # the steps after which one began, and at the end its tokens
        rank.energy = SimpleNamespace(begin=lambda: self.windows.append(rank.step), end=self.windows.append)
        self.steps = ProbedSteps(rank, course, micro_batch=1, device=torch.device("cpu"))
        self.enough = training_probe._Enough(self.steps)
        self.control: Any = SimpleNamespace(should_training_stop=False)

    def step(self, duration_s: float, tokens: int, *, is_skipped: bool = False) -> None:
        """Of micro-batches of `duration_s` each, after the data have taken a second."""
        self.now_s += 1.0
        self.enough.on_step_begin()
        for number in range(ACCUMULATION):
            if self.steps.is_left_out(number, ACCUMULATION):
                continue
            self.steps.forward(batch(tokens))
            self.steps.backward()
            self.now_s += duration_s
            if number < ACCUMULATION - 1:
                self.steps.micro_step_end()
        self.steps.update()
        self.steps.step_end(was_skipped=is_skipped)
        self.enough.on_step_end(None, None, self.control)


def test_only_measured_steps_count_and_their_number_is_that_of_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = schedule(spec(DeviceKind.CUDA, TYPICAL), ACCUMULATION)
    course = training_probe._course(spec(DeviceKind.CUDA, TYPICAL), steps, ACCUMULATION)
    drive = Drive(monkeypatch, replace(course, measure_s=12.0))
    run = 0
    for number, step in enumerate(steps):
        drive.step(1.0 if step.is_measured or number < 2 else 10.0, tokens=100 if step.is_measured else 7)
        run += 1
        if drive.control.should_training_stop:
            break
    assert run == course.measured[3]  # 12 s of 3 s each
    meter = drive.steps.meter
    assert meter.first_s == meter.middle_s == meter.last_s == [1.0] * 4
    assert drive.steps.mean_tokens() == 100
    micro_batch = [Phase.FORWARD, Phase.BACKWARD]
    whole = micro_batch * ACCUMULATION + [Phase.STEP]
    assert drive.phases[:10] == [*micro_batch, Phase.STEP, *whole]


def test_a_number_that_is_fixed_asks_nobody_for_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive(monkeypatch, Course(2, range(3, 6), 100.0, count=3))
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: pytest.fail("asked"))
    for _ in range(4):
        drive.step(1.0, 5)
    assert not drive.steps.is_over
    drive.step(1.0, 5)
    assert drive.steps.is_over
    assert len(drive.steps.meter.last_s) == 3
    assert drive.heap == [("keep", 2), ("give back", 5)]  # measured steps run as the full run's do
    assert drive.windows == [1, 2, 3 * ACCUMULATION * 5.0]  # energy is counted where they are


@pytest.mark.parametrize(("least_tokens_per_s", "step_count"), [(9.0, 3), (11.0, 1)])
def test_a_probe_ends_after_its_first_measured_step_if_it_is_too_slow(
    monkeypatch: pytest.MonkeyPatch, least_tokens_per_s: float, step_count: int
) -> None:
    """Both ranks take a second for each micro-batch of 5 tokens, 10 of a request's step as of a probe's."""
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: RANKS)
    course = Course(2, range(3, 6), 9.0, pace=Pace(least_tokens_per_s, accumulation=10))
    drive = Drive(monkeypatch, course)
    while not drive.control.should_training_stop:
        drive.step(1.0, 5)
    assert drive.steps.is_outpaced == (step_count == 1)
    assert len(drive.steps.meter.step_s) == step_count


@pytest.mark.parametrize(
    ("is_uniform", "duration_s", "run"), [(True, LONG_STEP_S, 2), (True, 1.0, 3), (False, 60.0, 3)]
)
def test_where_rows_are_alike_the_second_of_two_long_steps_is_measured(
    monkeypatch: pytest.MonkeyPatch, is_uniform: bool, duration_s: float, run: int
) -> None:
    drive = Drive(monkeypatch, Course(MEMORY_STEPS, range(3, 6), 1.5, is_uniform=is_uniform))
    drive.step(2 * duration_s, 5)
    while not drive.control.should_training_stop:
        drive.step(duration_s, 5)
    meter = drive.steps.meter
    assert meter.first_s == meter.middle_s == meter.last_s == [duration_s]
    assert drive.steps._rank.step == run
    assert drive.windows[-1] == ACCUMULATION * 5.0


@pytest.mark.parametrize(
    ("rung", "is_uniform", "duration_s", "lacks_middle"),
    [
        (make_rung(2), True, LONG_STEP_S, True),
        (make_rung(2), True, LONG_STEP_S - 1, False),
        (make_rung(2), False, LONG_STEP_S, False),  # a middle one of other rows may take longer
        (make_rung(0), True, LONG_STEP_S, False),
        (make_rung(2, offload=Offload.OPTIMIZER), True, LONG_STEP_S, False),
        (make_rung(3, optimizer=Optimizer.LOMO), True, LONG_STEP_S, False),
    ],
)
def test_long_micro_batches_between_the_first_and_the_last_are_left_out_where_they_show_nothing(
    monkeypatch: pytest.MonkeyPatch, rung: Rung, is_uniform: bool, duration_s: float, lacks_middle: bool
) -> None:
    drive = Drive(monkeypatch, Course(MEMORY_STEPS, range(3, 6), 1.5, is_uniform=is_uniform, shortens=rung))
    while not drive.control.should_training_stop:
        drive.step(duration_s, 5)
    meter = drive.steps.meter
    assert meter.first_s == meter.last_s == [duration_s]
    assert meter.middle_s == ([] if lacks_middle else [duration_s])
    assert drive.windows[-1] == (2 if lacks_middle else ACCUMULATION) * 5.0


@pytest.mark.parametrize(("narrower", "task"), [((BatchShape(64, 64.0),), Task.SFT), ((), Task.GRPO)])
def test_a_first_step_that_shows_more_than_one_shape_is_whole(narrower: tuple[BatchShape, ...], task: Task) -> None:
    asked = spec(DeviceKind.CPU, (WORST,), *narrower)
    asked = replace(asked, job=replace(asked.job, request=replace(asked.job.request, task=task)))
    course = training_probe._course(asked, schedule(asked, ACCUMULATION), ACCUMULATION)
    steps = ProbedSteps(Any, course, micro_batch=1, device=torch.device("cpu"))  # type: ignore[arg-type]
    assert not steps.is_left_out(0, ACCUMULATION)


def test_a_trainer_computes_nothing_where_a_micro_batch_is_left_out() -> None:
    run: list[str] = []
    arguments = SimpleNamespace(device=torch.device("cpu"), gradient_accumulation_steps=ACCUMULATION)
    trainer: Any = SimpleNamespace(args=arguments, training_step=lambda batch: run.append(batch) or torch.ones(()))
    steps: Any = SimpleNamespace(is_left_out=lambda place, count: place < count - 1)
    training_probe._ShortSteps(trainer, steps)
    losses = [float(trainer.training_step(f"row {number}")) for number in range(2 * ACCUMULATION)]
    assert losses == [0.0, 0.0, 1.0] * 2
    assert run == ["row 2", "row 5"]


@pytest.mark.parametrize("count", [None, 2])
def test_steps_are_measured_by_whole_periods(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    """Of three steps one generates answers, whichever it is."""
    drive = Drive(monkeypatch, Course(2, range(3, 9), 6.0, count=count, period=3))
    for duration_s in [3.0, 1.0, 1.0] * 2:
        if not drive.control.should_training_stop:
            drive.step(duration_s, 5)
    assert drive.steps._rank.step == 5
    assert sorted(drive.steps.meter.first_s) == [1.0, 1.0, 3.0]


def test_only_rows_of_one_length_are_alike() -> None:
    even, uneven = spec(DeviceKind.CUDA, (WORST,)), spec(DeviceKind.CUDA, TYPICAL)
    courses = [training_probe._course(one, schedule(one, ACCUMULATION), ACCUMULATION) for one in (even, uneven)]
    assert [course.is_uniform for course in courses] == [True, False]


def test_a_step_that_is_skipped_ends_a_probe_of_a_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's may scale its loss down: it is given some."""
    drive = Drive(monkeypatch, Course(2, range(3, 6), 1.0))
    drive.step(1.0, 5)
    with pytest.raises(KnownFailure, match="not finite"):
        drive.step(1.0, 5, is_skipped=True)
    assert (drive.steps.skipped_count, len(drive.steps.meter.last_s)) == (1, 0)
