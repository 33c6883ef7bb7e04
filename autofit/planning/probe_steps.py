"""The steps of a probe: how many there are, of how many micro-batches, and what a whole step takes by them."""

from __future__ import annotations

import math

from autofit.domain.hardware import DeviceKind
from autofit.domain.task import Task

MEMORY_STEPS = 2
"""The steps that come first: Adam's state appears at the first one, ZeRO-3's reuse of gathered parameters at the
second."""

MIN_MEASURED_STEPS = 1  # a long step says as much as many short ones of as many seconds
MAX_MEASURED_STEPS = 12  # of MEASURE_S; of a longer time in proportion

MEASURE_S = 1.5
"""How long the measured steps should take, all together."""

PROBED_ACCUMULATION = 3
"""The most that a probe accumulates: a first micro-batch that makes the gradients, one that adds to them, one with the
update."""


def probed_accumulation(accumulation: int, task: Task = Task.SFT) -> int:
    """How many micro-batches a probe accumulates for the `accumulation` of a training.

    All of them where answers are generated: a rank generates those of a whole step at a time, whose memory and seconds
    no smaller step shows.
    """
    return accumulation if task.traits.generates else min(accumulation, PROBED_ACCUMULATION)


LONG_STEP_S = 5.0
"""A step from which on the last memory step is measured itself, where its rows are those of any other: what a second
step still pays once, plans and blocks of an allocator, is some tens of milliseconds."""


def measured_count(step_s: float, measure_s: float = MEASURE_S) -> int:
    """The number of steps of `step_s` seconds that are measured."""
    return min(max(math.ceil(measure_s / step_s), MIN_MEASURED_STEPS), most_measured(measure_s))


def most_measured(measure_s: float = MEASURE_S) -> int:
    """The most steps that are measured, however short they are: each has rows of its own."""
    return math.ceil(MAX_MEASURED_STEPS * max(1.0, measure_s / MEASURE_S))


def whole_periods(count: int, period: int) -> int:
    """The steps from `count` on that are a whole number of periods, of whose steps one is unlike the others."""
    return math.ceil(count / period) * period


def is_uniform(kind: DeviceKind, *, has_even_rows: bool) -> bool:
    """Whether the last memory step is like those after it: rows of one length, and a heap that stays as it is, which
    that of a CPU rank does not: it is exact, and slower, until then."""
    return has_even_rows and kind is not DeviceKind.CPU


def is_measured_early(step_s: float, measure_s: float = MEASURE_S, *, is_uniform: bool) -> bool:
    """Whether the last memory step counts as the measured one; `is_uniform`: it is like those after it."""
    return is_uniform and step_s >= LONG_STEP_S * max(1.0, measure_s / MEASURE_S)


def whole_step_s(first_s: float, middle_s: float, last_s: float, accumulation: int) -> float:
    """The seconds of an optimizer step of `accumulation` micro-batches, each kind as often as the step has it."""
    return last_s + (first_s if accumulation > 1 else 0.0) + max(0, accumulation - 2) * middle_s
