"""The steps of a probe: how many there are, of how many micro-batches, and what a whole step takes by them."""

from __future__ import annotations

import math

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.task import Task

MEMORY_STEPS = 2
"""The steps that come first: Adam's state appears at the first one, for which one micro-batch is enough, ZeRO-3's reuse
of gathered parameters at the second."""

MIN_MEASURED_STEPS = 1  # a long step says as much as many short ones of as many seconds
MAX_MEASURED_STEPS = 12
"""Of MEASURE_S. A longer time is there for the noise of steps, which goes with their number: it has as many times as
many as it is longer, with rows of their own, and those again as often for steps that are short."""

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


def lacks_middle(micro_step_s: float, rung: Rung, *, is_uniform: bool) -> bool:
    """Whether the steps of a probe have no micro-batch between the first and the last.

    With ZeRO it shows no higher peak than the last, unless the last drops gradients in its backward pass; it takes as
    long as the first but for the addition of gradients, which is nothing beside a long pass where they lie on the
    device.
    """
    adds_briefly = rung.zero_stage > 0 and rung.offload is Offload.NONE and not rung.optimizer.is_fused
    return is_uniform and adds_briefly and micro_step_s >= LONG_STEP_S


def is_left_out(step: int, place: int, accumulation: int, *, lacks_middle: bool) -> bool:
    """Whether a probe's step, by its number from 1, goes without its micro-batch number `place`, from 0: the first has
    only its last one."""
    return (place < accumulation - 1) if step == 1 else (lacks_middle and 0 < place < accumulation - 1)


def probed_micro_batches(micro_step_s: float, strategy: Strategy, task: Task, *, is_uniform: bool) -> int:
    """How many micro-batches of `micro_step_s` a probe's steps from the second on have."""
    accumulation = probed_accumulation(strategy.gradient_accumulation, task)
    is_short = lacks_middle(micro_step_s, strategy.rung, is_uniform=is_uniform) and not task.traits.generates
    return min(accumulation, 2) if is_short else accumulation


def probed_steps_s(
    micro_step_s: float,
    strategy: Strategy,
    task: Task,
    measure_s: float,
    *,
    is_uniform: bool,
    is_outpaced: bool = False,
) -> float:
    """The seconds of a probe's steps, whose micro-batches take `micro_step_s`. `is_outpaced`: it ended with the first
    step that was measured.

    Known error: an answer's generation counts as a part of its micro-batch, and on a CPU data of many widths need whole
    first steps.
    """
    count = probed_micro_batches(micro_step_s, strategy, task, is_uniform=is_uniform)
    first, step_s = count if task.traits.generates else 1, count * micro_step_s
    measured = 1 if is_outpaced else measured_count(step_s, measure_s)
    measured -= is_measured_early(step_s, measure_s, is_uniform=is_uniform)
    return first * micro_step_s + (MEMORY_STEPS - 1 + measured) * step_s


def evaluation_s(micro_step_s: float) -> float:
    """The seconds of an evaluation of a micro-batch: a forward pass."""
    return micro_step_s / 3


def measured_count(step_s: float, measure_s: float = MEASURE_S) -> int:
    """The number of steps of `step_s` seconds that are measured."""
    return min(max(math.ceil(measure_s / step_s), MIN_MEASURED_STEPS), most_measured(measure_s))


def most_measured(measure_s: float = MEASURE_S) -> int:
    """The most steps that are measured, however short they are."""
    return steps_with_rows(measure_s) * rounds(measure_s)


def steps_with_rows(measure_s: float = MEASURE_S) -> int:
    """The measured steps that have rows of their own."""
    return math.ceil(MAX_MEASURED_STEPS * max(1.0, measure_s / MEASURE_S))


def rounds(measure_s: float = MEASURE_S) -> int:
    """How often the same rows come."""
    return math.ceil(max(1.0, measure_s / MEASURE_S))


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
