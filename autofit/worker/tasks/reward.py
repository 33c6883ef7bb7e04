"""A reward model (Ouyang et al., 2022, section 3.5): trl's RewardTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import RewardTrainer as TrlRewardTrainer

from autofit.domain.workload import BatchShape
from autofit.worker.tasks.task_training import TaskTraining
from autofit.worker.training.probe_rows import pair_lengths
from autofit.worker.training.tiny_model import tiny_scoring_model
from autofit.worker.training.trainer import PhasedTrainer


class RewardTrainer(PhasedTrainer, TrlRewardTrainer):
    """Trains on rows of `chosen_ids` and `rejected_ids`, a head of one number for the answer that a sequence ends in.

    Without an engine the head beside adapters trains in fp32, as PEFT makes the adapters themselves: nobody else keeps
    a copy of it in fp32.
    """

    prepared_column = "chosen_ids"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.args.deepspeed is None and kwargs.get("peft_config") is not None:
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()


class RewardTraining(TaskTraining):
    trainer = RewardTrainer

    def probe_rows(self, shapes: Sequence[BatchShape], micro_batch: int, vocabulary_size: int) -> Dataset:
        chosen, rejected = pair_lengths(shapes, micro_batch)
        longest = [token % vocabulary_size for token in range(max(*chosen, *rejected))]
        return Dataset.from_dict(
            {
                "chosen_ids": [longest[:length] for length in chosen],
                "rejected_ids": [longest[:length] for length in rejected],
            }
        )

    def stand_in(self, vocabulary_size: int, **given: Any) -> Any:
        return TrlRewardTrainer(model=tiny_scoring_model(vocabulary_size), **given)
