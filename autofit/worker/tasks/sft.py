"""Supervised fine-tuning: trl's SFTTrainer, with the loss of a step and of an evaluation by tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.domain.workload import BatchShape
from autofit.worker.model.loss_names import name_for_loss
from autofit.worker.tasks.task_training import TaskTraining
from autofit.worker.training.epoch import TokenMean, filled_with_blanks
from autofit.worker.training.probe_rows import row_lengths
from autofit.worker.training.tiny_model import tiny_model
from autofit.worker.training.trainer import PhasedTrainer
from autofit.worker.training.trainer_arguments import extra_arguments


class SftTrainer(PhasedTrainer, SFTTrainer):
    """Its steps and its evaluation loss are those of one process with the whole batch, however the batch is divided:
    rows that teach nothing fill the last one. UsageError where there is nothing to score."""

    def __init__(self, *, model: Any, **kwargs: Any) -> None:
        name_for_loss(model)
        super().__init__(model=model, **kwargs)

    def _fill_rows(self) -> None:
        self.train_dataset = filled_with_blanks(self.train_dataset, self._global_batch)
        if self.eval_dataset is not None:
            rows = self.args.eval_batch_size * self.args.world_size
            self.eval_dataset = filled_with_blanks(self.eval_dataset, rows)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if not self.model.training:
            self._scored.add(loss, inputs["labels"])
        return loss

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Evaluates by tokens: transformers' own mean is one of batches, whose tokens are not equally many."""
        self._scored = TokenMean(self.args.device)
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        loss = self._scored.over_ranks()
        if loss is None:
            raise UsageError("the evaluation data has no token to score")
        output.metrics[f"{metric_key_prefix}_loss"] = loss
        return output


class SftTraining(TaskTraining):
    trainer = SftTrainer

    def probe_rows(self, shapes: Sequence[BatchShape], micro_batch: int, vocabulary_size: int) -> Dataset:
        lengths = [length for shape in shapes for length in row_lengths(shape, micro_batch)]
        longest = [token % vocabulary_size for token in range(max(lengths))]
        ids = [longest[:length] for length in lengths]
        return Dataset.from_dict({"input_ids": ids, "labels": ids})

    def stand_in(self, vocabulary_size: int, **given: Any) -> Any:
        return SFTTrainer(model=tiny_model(vocabulary_size), **given)

    def probe_overrides(self, request: Request) -> Mapping[str, Any]:
        is_packed = extra_arguments(request).get("packing", False)
        return {"dataset_kwargs": None if is_packed else {"skip_prepare_dataset": True}}
