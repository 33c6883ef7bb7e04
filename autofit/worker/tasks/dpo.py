"""Direct preference optimization (Rafailov et al., 2023): trl's DPOTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import DPOTrainer

from autofit.domain.workload import BatchShape
from autofit.worker.tasks.referenced import ReferencedTrainer, ReferencedTraining
from autofit.worker.training.probe_rows import pair_lengths
from autofit.worker.training.tiny_model import tiny_model


class DpoTrainer(ReferencedTrainer, DPOTrainer):
    """Trains on rows of `prompt_ids`, `chosen_ids` and `rejected_ids`."""


class DpoTraining(ReferencedTraining):
    trainer = DpoTrainer

    def probe_rows(self, shapes: Sequence[BatchShape], micro_batch: int, vocabulary_size: int) -> Dataset:
        chosen, rejected = pair_lengths(shapes, micro_batch)
        longest = [token % vocabulary_size for token in range(max(*chosen, *rejected))]
        nothing = [0.0] * len(chosen)
        return Dataset.from_dict(
            {
                "prompt_ids": [longest[:1]] * len(chosen),
                "chosen_ids": [longest[1:length] for length in chosen],
                "rejected_ids": [longest[1:length] for length in rejected],
                "ref_chosen_logps": nothing,  # read where they are not computed in each step
                "ref_rejected_logps": nothing,
            }
        )

    def stand_in(self, vocabulary_size: int, **given: Any) -> Any:
        model, reference = tiny_model(vocabulary_size), tiny_model(vocabulary_size)
        return DPOTrainer(model=model, ref_model=reference, **given)
