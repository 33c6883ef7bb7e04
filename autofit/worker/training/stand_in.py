"""Trainers of trl with a model of one tiny layer: what they make of data, the full run's trainer makes of it too."""

from __future__ import annotations

from typing import Any

from autofit.domain.request import Request
from autofit.worker.data.row_processes import process_count
from autofit.worker.data.training_data import TrainingData
from autofit.worker.tasks.all_tasks import TASKS
from autofit.worker.training.trainer_arguments import stand_in_arguments

_PROCESSES = "dataset_num_proc"


def stand_in_trainer(request: Request, data: TrainingData, *, folder: str, cuts: bool = True) -> Any:
    """The task's trainer of these rows, on the CPU; `cuts`: with the sequence length, which the trainer leaves rows out
    by. Raises what trl raises of its arguments and of the rows."""
    arguments = stand_in_arguments(request, output_path=folder)
    if not cuts:
        arguments.max_length = None
    if getattr(arguments, _PROCESSES, 0) is None:  # the trainer has it, and the user left it open
        setattr(arguments, _PROCESSES, process_count(len(data.train), data.most_processes))
    return TASKS[request.task].stand_in(
        len(data.tokenizer),
        args=arguments,
        train_dataset=data.train,
        eval_dataset=data.evaluation,
        processing_class=data.tokenizer,
    )


def begin(trainer: Any, steps: int) -> None:
    """Makes what a training makes when it begins: its optimizer, its schedule, and a batch of each data loader."""
    trainer.create_optimizer_and_scheduler(steps)
    loaders = [trainer.get_train_dataloader(), *([trainer.get_eval_dataloader()] if trainer.eval_dataset else [])]
    for loader in loaders:
        loader.collate_fn([loader.dataset[0]])
