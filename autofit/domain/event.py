"""What happens during a run, as the screen hears of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Union

from .energy import Energy
from .hardware import Hardware
from .ladder import Ladder
from .metric import Metric, MetricCourse
from .model import ModelShape
from .outcome import Phase
from .request import Request
from .strategy import Strategy
from .timeline import Timeline
from .training_phase import TrainingPhase
from .trial import Choice, GiveUp, Trial
from .workload import DataProfile


@dataclass(frozen=True)
class PhaseStarted:
    """The next of several trainings begins; what is shown from here on is its own."""

    number: int
    count: int
    phase: TrainingPhase
    output_dir: str


@dataclass(frozen=True)
class MachineSeen:
    hardware: Hardware


@dataclass(frozen=True)
class ModelRead:
    shape: ModelShape
    scores: bool = False  # it has a head of one number in place of the one for words, and is counted so


@dataclass(frozen=True)
class DataRead:
    request: Request
    profile: DataProfile


@dataclass(frozen=True)
class SurveyProgress:
    """How far the rows are that become tokens, beside the search where there are many."""

    done_rows: int
    row_count: int


@dataclass(frozen=True)
class LadderBuilt:
    ladder: Ladder


@dataclass(frozen=True)
class ProbeStarted:
    strategy: Strategy
    why: str
    is_rehearsal: bool = False


@dataclass(frozen=True)
class ProbeHeartbeat:
    strategy: Strategy
    phase: Phase


@dataclass(frozen=True)
class TrialEnded:
    trial: Trial
    is_remembered: bool = False  # read back from the run folder, not probed now


@dataclass(frozen=True)
class Chosen:
    choice: Choice
    decided_s: float
    probe_count: int
    rehearsal_count: int = 0
    is_remembered: bool = False

    @staticmethod
    def after(trials: Sequence[Trial], choice: Choice, decided_s: float, *, is_remembered: bool = False) -> Chosen:
        rehearsals = sum(trial.is_rehearsal for trial in trials)
        return Chosen(choice, decided_s, len(trials) - rehearsals, rehearsals, is_remembered)


@dataclass(frozen=True)
class GaveUp:
    action: GiveUp


@dataclass(frozen=True)
class DownloadStarted:
    """What the full run needs of a model begins to come from the hub, beside the search."""

    model: str
    commit: str
    total_bytes: int


@dataclass(frozen=True)
class DownloadProgress:
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class DownloadEnded:
    model: str
    total_bytes: int
    total_s: float


@dataclass(frozen=True)
class TrainingStarted:
    strategy: Strategy
    resumed_from: str | None
    log_path: str


@dataclass(frozen=True)
class ModelLoading:
    """A model on its way from the disk: `weight_count` parameters, of which `loaded_count` are there."""

    loaded_count: int
    weight_count: int


@dataclass(frozen=True)
class TrainingProgress:
    step: int
    step_count: int
    loss: float | None
    tokens_per_s: float | None
    peak_device_bytes: int | None
    left_s: float | None
    saved_step: int | None = None
    eval_loss: float | None = None
    skipped_steps: int = 0  # by DeepSpeed, whose gradients were not finite
    trouble: str | None = None  # what is wrong now, and since when
    metrics: tuple[Metric, ...] = ()  # of the last step that was told


@dataclass(frozen=True)
class TrainingEnded:
    """What the full run measured; speeds leave out the first steps, evaluations and saves, as the probe does."""

    model_path: str
    merged_path: str | None
    step_count: int
    first_loss: float | None
    last_loss: float | None
    tokens_per_s: float | None
    peak_device_bytes: int
    peak_host_bytes: int
    total_s: float
    eval_loss: float | None = None  # of the model that was saved, by tokens; None without evaluation data
    skipped_steps: int = 0  # by DeepSpeed, whose gradients were not finite
    trouble: str | None = None  # what was wrong at its end, and since when
    energy: Energy | None = None  # of its steps, with evaluations and checkpoints; None where nothing counts it
    timeline: Timeline | None = None  # None in what was written before it was kept
    metrics: tuple[MetricCourse, ...] = ()


@dataclass(frozen=True)
class Note:
    """One sentence that people should see."""

    text: str


Event = Union[
    PhaseStarted, MachineSeen, ModelRead, DataRead, SurveyProgress, LadderBuilt, ProbeStarted, ProbeHeartbeat,
    TrialEnded, Chosen, GaveUp, DownloadStarted, DownloadProgress, DownloadEnded, TrainingStarted, ModelLoading,
    TrainingProgress, TrainingEnded, Note,
]  # fmt: skip

DownloadEvent = Union[DownloadStarted, DownloadProgress, DownloadEnded, Note]

RankEvent = Union[ModelLoading, TrainingProgress, Note]
"""What the ranks of a full run tell while they run."""


class Screen(Protocol):
    """Whoever shows events: the live table, plain lines, or nobody."""

    def show(self, event: Event) -> None: ...


Tell = Callable[[str], None]
"""Whoever hears one sentence that people should see."""
