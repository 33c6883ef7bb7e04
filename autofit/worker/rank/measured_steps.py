"""What probes of autofit's own training and of a user's script have in common: which steps count, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autofit.domain.outcome import Phase
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.probe_steps import (
    is_left_out,
    is_measured_early,
    lacks_middle,
    measured_count,
    whole_periods,
    whole_step_s,
)
from autofit.probing.protocol import RankEnergy, RankMeasured
from autofit.worker.deepspeed.engine_watch import StepListener
from autofit.worker.rank.lifecycle import Rank
from autofit.worker.rank.memory_meter import Meter
from autofit.worker.script.observed_batch import observe_batch
from autofit.worker.training.step_meter import StepMeter

NOT_FINITE = "the gradients are not finite: the step is skipped, and nothing is known of its optimizer's memory"


@dataclass(frozen=True)
class Pace:
    """The speed that a probe must have, in steps of the request's `accumulation` of all ranks."""

    least_tokens_per_s: float
    accumulation: int

    @staticmethod
    def of(least_tokens_per_s: float | None, strategy: Strategy | None) -> Pace | None:
        """The pace of a probe of `strategy`; None where it has all the time."""
        if least_tokens_per_s is None or strategy is None:
            return None
        return Pace(least_tokens_per_s, strategy.gradient_accumulation)


@dataclass(frozen=True)
class Course:
    """The optimizer steps of a probe, by their numbers from 1.

    After the first `memory_steps` the first `count` of `measured` are; where `count` is None, as many as take
    `measure_s`. `is_uniform`: the last memory step is like those after it, and counts where it was long. `pace`
    ends the probe after the first that is measured, if it is too slow. Whole periods of `period` steps are measured.
    `shortens`: the rung, where steps are without the micro-batches that show nothing of it; None where all are whole.
    """

    memory_steps: int
    measured: Sequence[int]
    measure_s: float
    count: int | None = None
    is_uniform: bool = False
    pace: Pace | None = None
    period: int = 1
    shortens: Rung | None = None

    def lacks_middle(self, micro_step_s: float, device: torch.device) -> bool:
        """Whether steps have no micro-batch between the first and the last, where one takes `micro_step_s`: the same
        on every rank."""
        if self.shortens is None:
            return False
        return lacks_middle(_largest([micro_step_s], device)[0], self.shortens, is_uniform=self.is_uniform)

    def last_step(self, step_s: float, device: torch.device) -> int:
        """The number of the last that is needed, where one takes `step_s`: the same on every rank, by the slowest of
        them."""
        if self.count is not None:
            return self._last_of(self.count)
        slowest_s = _largest([step_s], device)[0]
        if is_measured_early(slowest_s, self.measure_s, is_uniform=self.is_uniform):
            return self.memory_steps
        return self._last_of(measured_count(slowest_s, self.measure_s))

    def _last_of(self, count: int) -> int:
        return self.measured[: whole_periods(count, self.period)][-1]


class PhaseListener(StepListener):
    """Tells a rank in which phase of a step its engine is."""

    def __init__(self, rank: Rank) -> None:
        self._rank = rank

    def forward(self, batch: Any) -> None:
        self._rank.enter(Phase.FORWARD)

    def backward(self) -> None:
        self._rank.enter(Phase.BACKWARD)

    def update(self) -> None:
        self._rank.enter(Phase.STEP)


class ProbedSteps(PhaseListener):
    """Counts a rank's steps and measures those that its course says, until it has enough of them.

    A step that was skipped is none: Adam's state has not appeared yet.
    """

    def __init__(self, rank: Rank, course: Course, *, micro_batch: int, device: torch.device) -> None:
        super().__init__(rank)
        self._course = course
        self._micro_batch = micro_batch
        self._device = device
        self._last_step: int | None = None  # known after the memory steps
        self._pace = course.pace  # until the first measured step was held against it
        self._lacks_middle = False
        self._window_tokens: list[torch.Tensor | float] = []
        self.energy: RankEnergy | None = None  # once it is over
        self.is_outpaced = False
        self.meter = StepMeter(period=course.period)
        self.skipped_count = 0  # in a row

    @property
    def is_over(self) -> bool:
        return self._rank.step == self._last_step

    def is_left_out(self, place: int, accumulation: int) -> bool:
        """Whether the step that goes on has no micro-batch number `place`, from 0."""
        if self._course.shortens is None:
            return False
        return is_left_out(self._rank.step + 1, place, accumulation, lacks_middle=self._lacks_middle)

    def forward(self, batch: Any) -> None:
        super().forward(batch)
        tokens = observe_batch(batch, self._micro_batch).real_tokens
        self.meter.add_tokens(tokens)
        self._window_tokens.append(tokens)

    def micro_step_end(self) -> None:
        self.meter.end_micro_step()

    def step_end(self, *, was_skipped: bool) -> None:
        is_measured = not was_skipped and self._rank.step + 1 in self._course.measured
        step_s = self.meter.end_step(is_measured=is_measured)
        self.skipped_count = self.skipped_count + 1 if was_skipped else 0
        if was_skipped:
            return
        self._rank.step += 1
        if self._rank.step == 1:  # of one micro-batch
            self._lacks_middle = self._course.lacks_middle(step_s, self._device)
        if self._rank.step == self._course.memory_steps - 1:
            self._begin_window()
        if self._rank.step == self._course.memory_steps:
            self._last_step = self._course.last_step(step_s, self._device)
            if self.is_over:  # it was long enough to be measured itself
                self.meter.count_step()
            else:
                self._rank.keep_freed()
                self._begin_window()
                self.meter.begin()
        if self._pace is not None and self.meter.has_measured:
            self._race(self._pace)
            self._pace = None
        if self.is_over:
            self.energy = self._rank.energy.end(float(sum(self._window_tokens)))
            self._rank.meter.give_back()

    def _begin_window(self) -> None:
        self._window_tokens.clear()
        self._rank.energy.begin()

    def _race(self, pace: Pace) -> None:
        """Ends the probe if its first measured step is too slow; the ranks decide it by the same figures."""
        meter = self.meter
        durations_s = [(kind or [0.0])[0] for kind in (meter.first_s, meter.middle_s, meter.last_s)]
        first_s, middle_s, last_s = _largest(durations_s, self._device)
        step_s = whole_step_s(first_s, middle_s or first_s, last_s, pace.accumulation)
        tokens = self.mean_tokens() * torch.distributed.get_world_size() * pace.accumulation
        if tokens / step_s < pace.least_tokens_per_s:
            self.is_outpaced, self._last_step = True, self._rank.step

    def mean_tokens(self) -> float:
        """The real tokens of a measured micro-batch, the mean over all ranks, each of which must ask; its rows where no
        tokens were seen."""
        counts = [self.meter.tokens, float(self.meter.micro_batch_count)]
        sums = torch.tensor(counts, dtype=torch.float64, device=self._device)
        torch.distributed.all_reduce(sums)
        return float(sums[0] / sums[1]) or float(self._micro_batch)

    def own_mean_tokens(self) -> float:
        """The same of this rank alone, once it has measured a step."""
        return self.meter.tokens / self.meter.micro_batch_count or float(self._micro_batch)


def _largest(values: list[float], device: torch.device) -> list[float]:
    """The largest of each value over all ranks: the same on every rank."""
    largest = torch.tensor(values, device=device)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return [float(value) for value in largest]


def rank_measured(memory: Meter, steps: ProbedSteps, tokens_per_micro_batch: float) -> RankMeasured:
    durations = steps.meter
    return RankMeasured(
        peak_device_bytes=memory.peak_device_bytes(),
        peak_host_bytes=memory.peak_host_bytes(),
        base_bytes=memory.base_bytes,
        alloc_retries=memory.alloc_retries(),
        first_s=_mean(durations.first_s),
        middle_s=_mean(durations.middle_s),
        last_s=_mean(durations.last_s),
        tokens_per_micro_batch=tokens_per_micro_batch,
        peak_allocated_bytes=memory.peak_allocated_bytes(),
        speed_error=durations.error,
        step_count=len(durations.step_s),
        is_outpaced=steps.is_outpaced,
        energy=steps.energy,
    )


def _mean(durations_s: list[float]) -> float | None:
    return sum(durations_s) / len(durations_s) if durations_s else None
