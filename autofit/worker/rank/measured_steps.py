"""What probes of autofit's own training and of a user's script have in common: which steps count, and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autofit.domain.outcome import Phase
from autofit.planning.probe_steps import MAX_MEASURED_STEPS, MIN_MEASURED_STEPS
from autofit.probing.protocol import RankMeasured
from autofit.worker.deepspeed.engine_watch import StepListener
from autofit.worker.rank.lifecycle import Rank
from autofit.worker.rank.memory_meter import Meter
from autofit.worker.script.observed_batch import observe_batch
from autofit.worker.training.step_meter import StepMeter

NOT_FINITE = "the gradients are not finite: the step is skipped, and nothing is known of its optimizer's memory"


@dataclass(frozen=True)
class Course:
    """The optimizer steps of a probe, by their numbers from 1.

    After the first `memory_steps` the first `count` of `measured` are; where `count` is None, as many as take
    `measure_s`.
    """

    memory_steps: int
    measured: Sequence[int]
    measure_s: float
    count: int | None = None

    def last_step(self, step_s: float, device: torch.device) -> int:
        """The number of the last that is needed, where one takes `step_s`: the same on every rank."""
        count = steps_in(self.measure_s, step_s, device) if self.count is None else self.count
        return self.measured[:count][-1]


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
        self.meter = StepMeter()
        self.skipped_count = 0  # in a row

    @property
    def is_over(self) -> bool:
        return self._rank.step == self._last_step

    def forward(self, batch: Any) -> None:
        super().forward(batch)
        self.meter.add_tokens(observe_batch(batch, self._micro_batch).real_tokens)

    def micro_step_end(self) -> None:
        self.meter.end_micro_step()

    def step_end(self, *, was_skipped: bool) -> None:
        is_measured = not was_skipped and self._rank.step + 1 in self._course.measured
        step_s = self.meter.end_step(is_measured=is_measured)
        self.skipped_count = self.skipped_count + 1 if was_skipped else 0
        if was_skipped:
            return
        self._rank.step += 1
        if self._rank.step == self._course.memory_steps:
            self._last_step = self._course.last_step(step_s, self._device)
            self._rank.keep_freed()
            self.meter.begin()
        elif self.is_over:
            self._rank.meter.give_back()

    def mean_tokens(self) -> float:
        """The real tokens of a measured micro-batch, the mean over all ranks, each of which must ask."""
        counts = [self.meter.tokens, float(self.meter.micro_batch_count)]
        sums = torch.tensor(counts, dtype=torch.float64, device=self._device)
        torch.distributed.all_reduce(sums)
        return float(sums[0] / sums[1])


def steps_in(measure_s: float, step_s: float, device: torch.device) -> int:
    """The number of steps of `step_s` that are to be measured: the same number on every rank, by the slowest of
    them."""
    slowest_s = torch.tensor([step_s], device=device)
    torch.distributed.all_reduce(slowest_s, torch.distributed.ReduceOp.MAX)
    wanted = math.ceil(measure_s / slowest_s.item())
    return min(max(wanted, MIN_MEASURED_STEPS), MAX_MEASURED_STEPS)


def rank_measured(memory: Meter, durations: StepMeter, tokens_per_micro_batch: float) -> RankMeasured:
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
    )


def _mean(durations_s: list[float]) -> float | None:
    return sum(durations_s) / len(durations_s) if durations_s else None
