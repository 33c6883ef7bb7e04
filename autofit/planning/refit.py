"""What the trials on a device teach about its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from autofit.domain.constants import Constants
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Measured
from autofit.domain.trial import Trial

from .constants import prior
from .memory import estimate_memory
from .setting import Setting

MOST_FRAGMENTATION = 1.5
"""A larger ratio is an estimate that is wrong, not an allocator that wastes a third of a device."""


@dataclass(frozen=True)
class _Point:
    tensors_bytes: int  # predicted
    taken_bytes: int  # measured, without the runtime
    is_alone: bool


def refit(constants: Constants, trials: Sequence[Trial], setting: Setting) -> Constants:
    """`constants` with the memory part fitted to what was measured; unchanged where nothing was.

    The runtime is the median of what was held before the models were built; on a CPU, where the heap holds libraries
    and compiled kernels as well as tensors, of all that was held beside the predicted tensors. Trials without a
    communicator (rehearsals, one device) tell the fragmentation, the others then the communicator; where all had one,
    the prior fragmentation stands. Medians: one wrong point moves nothing.
    """
    measured = [(trial, trial.outcome) for trial in trials if isinstance(trial.outcome, Measured)]
    if not measured:
        return constants
    points = [_point(trial, outcome, setting) for trial, outcome in measured]
    if setting.kind is DeviceKind.CPU:
        beside_bytes = [
            o.base_bytes + p.taken_bytes - p.tensors_bytes for p, (_, o) in zip(points, measured, strict=True)
        ]
        return replace(constants, runtime_bytes=max(0, round(median(beside_bytes))), fitted_from=len(measured))
    fragmentation = _fragmentation([point for point in points if point.is_alone], prior(setting.kind).fragmentation)
    return replace(
        constants,
        runtime_bytes=round(median(outcome.base_bytes for _, outcome in measured)),
        communicator_bytes=_communicator_bytes(
            [point for point in points if not point.is_alone], fragmentation, constants
        ),
        fragmentation=fragmentation,
        fitted_from=len(measured),
    )


def _point(trial: Trial, outcome: Measured, setting: Setting) -> _Point:
    memory = estimate_memory(trial.strategy, setting, is_rehearsal=trial.is_rehearsal)
    is_alone = trial.is_rehearsal or not setting.is_divided
    return _Point(memory.peak_bytes - memory.runtime_bytes, outcome.peak_device_bytes - outcome.base_bytes, is_alone)


def _fragmentation(alone: Sequence[_Point], otherwise: float) -> float:
    ratios = [point.taken_bytes / point.tensors_bytes for point in alone if point.tensors_bytes > 0]
    return min(max(median(ratios), 1.0), MOST_FRAGMENTATION) if ratios else otherwise


def _communicator_bytes(together: Sequence[_Point], fragmentation: float, constants: Constants) -> int:
    rests = [point.taken_bytes - fragmentation * point.tensors_bytes for point in together]
    return max(0, round(median(rests))) if rests else constants.communicator_bytes
