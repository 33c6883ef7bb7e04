"""What a run folder holds of a run."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.event import TrainingEnded
from autofit.domain.hardware import Hardware
from autofit.domain.request import Request
from autofit.domain.trial import Choice, Trial
from autofit.domain.workload import DataProfile


@dataclass(frozen=True)
class Record:
    """None for what has not happened yet."""

    request: Request
    hardware: Hardware | None
    trials: tuple[Trial, ...]
    choice: Choice | None
    result: TrainingEnded | None
    profile: DataProfile | None = None
    lost: tuple[str, ...] = ()  # folders that the result tells of, and where nothing lies any more
