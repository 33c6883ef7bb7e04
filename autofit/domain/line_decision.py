"""What was decided of a line of `deepspeed`, and for which training."""

from __future__ import annotations

from dataclasses import dataclass, field

from .hardware import DeviceKind
from .script import RuntimePatches
from .timeline import LaunchTimeline
from .training_length import SaidLength, TrainingLength


@dataclass(frozen=True)
class BatchFlags:
    """What Hugging Face's flags of the batch are to say; `accumulation_flag` is added to a line that has none. None
    where the script accumulates as much by itself."""

    micro_batch: int
    gradient_accumulation: int
    accumulation_flag: str | None = "--gradient_accumulation_steps"


@dataclass(frozen=True)
class Loading:
    """Where a script loads checkpoints from, and the ZeRO stage that it does so with."""

    folder: str
    zero_stage: int


@dataclass(frozen=True)
class Decision:
    """What a search came to, whatever else stands in the line: `config_path` None keeps the user's own config."""

    text: str
    kind: DeviceKind  # of the nodes
    config_path: str | None = None
    flags: BatchFlags | None = None  # None: the batch is not turned by flags
    turns: RuntimePatches = field(default_factory=RuntimePatches)
    loading: Loading | None = None  # None where the script was not seen to load anything


@dataclass(frozen=True)
class Settled:
    """The training that a decision was made for, and how far it holds beyond that."""

    said: SaidLength
    length: TrainingLength
    tolerance: float | None = None  # as in LaunchSettings
    reach_s: float | None = None  # the longest training for which no further probe would pay; None: however long
    epoch_steps: float | None = None  # the optimizer steps of an epoch; None where they could not be counted


@dataclass(frozen=True)
class Kept:
    """The decision of an earlier search in a run folder; `key` tells of what. Without `settled` it was kept before the
    lengths of trainings were: it was made for an hour."""

    key: str
    decision: Decision
    settled: Settled | None = None
    timeline: LaunchTimeline | None = None
