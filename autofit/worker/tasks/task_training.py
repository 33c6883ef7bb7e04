"""What a task is to the full run and to a probe: its trainer, the rows of a probe, and what stands beside the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from autofit.domain.event import Tell
from autofit.domain.request import Request
from autofit.domain.workload import BatchShape
from autofit.probing.protocol import Job, ProbeSpec
from autofit.worker.data.training_data import TrainingData
from autofit.worker.model.loading_bar import Hear
from autofit.worker.training.trainer import PhasedTrainer


class TaskTraining(ABC):
    """One task; an instance of each stands in `all_tasks`."""

    @property
    @abstractmethod
    def trainer(self) -> type[PhasedTrainer]:
        """autofit's trainer of the task, which is trl's."""

    @abstractmethod
    def probe_rows(self, shapes: Sequence[BatchShape], micro_batch: int, vocabulary_size: int) -> Dataset:
        """The rows of micro-batches of these shapes, one after the other, as the trainer has them once they are
        prepared."""

    @abstractmethod
    def stand_in(self, vocabulary_size: int, **given: Any) -> Any:
        """trl's own trainer of the task with a tiny model, made with what is `given` beside it: what it makes of data,
        that of a full run makes of it, too. Raises what trl raises."""

    def beside(
        self, job: Job, model: PreTrainedModel, data: TrainingData, *, hear: Hear, tell: Tell
    ) -> Mapping[str, Any]:
        """What the trainer of a full run is made of beside the model and its rows; `hear` and `tell` hear of what is
        loaded, as those of the model do."""
        return {}

    def beside_probe(self, spec: ProbeSpec, model: PreTrainedModel) -> Mapping[str, Any]:
        """The same for a probe, made of random weights."""
        return {}

    def probe_overrides(self, request: Request) -> Mapping[str, Any]:
        """What of the trainer's arguments is another in a probe, whose rows mean nothing."""
        return {}
