"""What the trials on a device teach about its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from autofit.domain.estimate import Constants
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Measured
from autofit.domain.trial import Trial
from autofit.planning.plain_torch import has_communicator
from autofit.planning.setting import Setting

from .device_share import sized_for
from .peak_memory import estimate_memory, is_whole_peak

MOST_FRAGMENTATION = 1.5
"""A larger ratio is an estimate that is wrong, not an allocator that wastes a third of a device."""


@dataclass(frozen=True)
class _Point:
    tensors_bytes: int  # predicted
    taken_bytes: int  # measured, without what lay beside the tensors
    beside_bytes: int
    is_alone: bool


def calibrate_memory(constants: Constants, trials: Sequence[Trial], setting: Setting) -> Constants:
    """The constants with the memory part fitted to what was measured; unchanged where nothing was.

    The runtime is the median of what lay beside the tensors of trials without a communicator (rehearsals, plain torch
    on one device), and the communicator what lay there more with one; where all had one, the runtime stands as it was.
    On a CPU, where the heap holds libraries and compiled kernels as well as tensors, the runtime is all that was held
    beside the predicted tensors. Medians: one wrong point moves nothing.
    """
    points = [
        _point(trial, trial.outcome, setting)
        for trial in trials
        if isinstance(trial.outcome, Measured) and is_whole_peak(trial.outcome, trial.estimate.memory)
    ]
    if not points:
        return constants
    if setting.kind is DeviceKind.CPU:
        beside_bytes = [point.beside_bytes + point.taken_bytes - point.tensors_bytes for point in points]
        return replace(constants, runtime_bytes=max(0, round(median(beside_bytes))), fitted_from=len(points))
    alone, shared = ([point for point in points if point.is_alone is wanted] for wanted in (True, False))
    runtime_bytes = _beside_bytes(alone, constants.runtime_bytes)
    shared_bytes = _beside_bytes(shared, runtime_bytes + constants.communicator_bytes)
    return replace(
        constants,
        runtime_bytes=runtime_bytes,
        communicator_bytes=max(0, shared_bytes - runtime_bytes),
        fragmentation=_fragmentation(points, constants.fragmentation),
        fitted_from=len(points),
    )


def _point(trial: Trial, outcome: Measured, setting: Setting) -> _Point:
    sized = sized_for(trial.strategy, setting)
    memory = estimate_memory(trial.strategy, sized, is_rehearsal=trial.is_rehearsal)
    return _Point(
        tensors_bytes=memory.peak_bytes - memory.runtime_bytes,
        taken_bytes=outcome.peak_device_bytes - outcome.base_bytes,
        beside_bytes=outcome.base_bytes,
        is_alone=trial.is_rehearsal or not has_communicator(trial.strategy.rung, setting),
    )


def _beside_bytes(points: Sequence[_Point], otherwise_bytes: int) -> int:
    return round(median(point.beside_bytes for point in points)) if points else otherwise_bytes


def _fragmentation(points: Sequence[_Point], otherwise: float) -> float:
    ratios = [point.taken_bytes / point.tensors_bytes for point in points if point.tensors_bytes > 0]
    return min(max(median(ratios), 1.0), MOST_FRAGMENTATION) if ratios else otherwise
