"""Trainers of trl with a model of one tiny layer: what they make of data, the full run's trainer makes of it too."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from autofit.domain.request import Request
from autofit.worker.tasks.all_tasks import TASKS
from autofit.worker.training.trainer_arguments import stand_in_arguments


def stand_in_trainer(
    request: Request,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    evaluation: Dataset | None,
    *,
    folder: str,
    cuts: bool = True,
) -> Any:
    """The task's trainer of these rows, on the CPU; `cuts`: with the sequence length, which the trainer leaves rows out
    by. Raises what trl raises of its arguments and of the rows."""
    arguments = stand_in_arguments(request, output_path=folder)
    if not cuts:
        arguments.max_length = None
    return TASKS[request.task].stand_in(
        len(tokenizer),
        args=arguments,
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=tokenizer,
    )


def begin(trainer: Any, steps: int) -> None:
    """Makes what a training makes when it begins: its optimizer, its schedule, and a batch of each data loader."""
    trainer.create_optimizer_and_scheduler(steps)
    loaders = [trainer.get_train_dataloader(), *([trainer.get_eval_dataloader()] if trainer.eval_dataset else [])]
    for loader in loaders:
        loader.collate_fn([loader.dataset[0]])
