"""Kahneman-Tversky optimization (Ethayarajh et al., 2024): trl's KTOTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import KTOTrainer
from trl.trainer.utils import global_then_local_main_first

from autofit.domain.workload import BatchShape
from autofit.worker.tasks.referenced import ReferencedTrainer, ReferencedTraining
from autofit.worker.training.probe_rows import row_lengths
from autofit.worker.training.tiny_model import tiny_model


class KtoTrainer(ReferencedTrainer, KTOTrainer):
    """Trains in one order that is drawn by the seed, for trl 1.16 takes the rows as they lie: those of pairs by kind.
    Each row's prompt is held against the answer of the row before it in its micro-batch, as trl pairs them."""

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: Any, dataset_name: str) -> Dataset:
        prepared = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if dataset_name != "train" or "KL_completion_ids" in dataset.column_names:  # a probe's have their order
            return prepared
        with global_then_local_main_first():
            drawn = prepared.shuffle(seed=args.seed)
            if not self.calculate_KL:
                return drawn
            return drawn.map(_with_last_first, batched=True, batch_size=args.per_device_train_batch_size)

    def _fill_rows(self) -> None:
        if self.args.dataloader_drop_last:  # here, for no sampler of autofit's leaves them out
            self.train_dataset = self.train_dataset.select(
                range(self._row_count - self._row_count % self._global_batch)
            )
        else:
            super()._fill_rows()


def _with_last_first(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A micro-batch with the answers of the rows before, the last one's with the first row."""
    answers = rows["completion_ids"]
    return {**rows, "KL_completion_ids": [*answers[-1:], *answers[:-1]]}


class KtoTraining(ReferencedTraining):
    trainer = KtoTrainer

    def probe_rows(self, shapes: Sequence[BatchShape], micro_batch: int, vocabulary_size: int) -> Dataset:
        lengths = [length for shape in shapes for length in row_lengths(shape, micro_batch)]
        longest = [token % vocabulary_size for token in range(max(lengths))]
        answers = [longest[1:length] for length in lengths]
        nothing = [0.0] * len(answers)
        return Dataset.from_dict(
            {
                "prompt_ids": [longest[:1]] * len(answers),
                "completion_ids": answers,
                "KL_completion_ids": answers,
                "label": [place % 2 == 0 for place in range(len(answers))],
                "ref_logps": nothing,  # read where they are not computed in each step
                "ref_KL_logps": nothing,
            }
        )

    def stand_in(self, vocabulary_size: int, **given: Any) -> Any:
        model, reference = tiny_model(vocabulary_size), tiny_model(vocabulary_size)
        return KTOTrainer(model=model, ref_model=reference, **given)
