"""What probes of autofit's own training and of a user's script have in common: how many steps, and the report."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch

from autofit.probing.protocol import FailureKind, RankMeasured
from autofit.worker.failure import KnownFailure
from autofit.worker.memory import Meter

MEMORY_STEPS = 2  # Adam's state appears at the first step, ZeRO-3's reuse of gathered parameters at the second
MAX_MEASURED_STEPS = 12
MIN_MEASURED_STEPS = 2


NOT_FINITE = "the gradients are not finite: DeepSpeed skips the step, and nothing is known of its optimizer's memory"


def check_steps(engine: Any) -> None:
    """KnownFailure where an engine has skipped a step: the states of Adam may never have been there."""
    if engine.skipped_steps:
        raise KnownFailure(FailureKind.UNSUPPORTED, NOT_FINITE)


class Durations(Protocol):
    """Of micro-batches, by their place in an optimizer step."""

    first_s: list[float]
    middle_s: list[float]
    last_s: list[float]


def steps_in(measure_s: float, step_s: float, device: Any) -> int:
    """How many steps of `step_s` are to be measured: the same number on every rank, by the slowest of them."""
    slowest_s = torch.tensor([step_s], device=device)
    torch.distributed.all_reduce(slowest_s, torch.distributed.ReduceOp.MAX)
    wanted = math.ceil(measure_s / slowest_s.item())
    return min(max(wanted, MIN_MEASURED_STEPS), MAX_MEASURED_STEPS)


def rank_measured(memory: Meter, durations: Durations, tokens_per_micro_batch: float) -> RankMeasured:
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
    )


def _mean(durations_s: list[float]) -> float | None:
    return sum(durations_s) / len(durations_s) if durations_s else None
