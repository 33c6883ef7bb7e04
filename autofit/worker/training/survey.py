"""Looks at the data through the trainer's own eyes: trl takes it for a stand-in model of one tiny layer."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence

from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTTrainer

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.domain.workload import DataProfile
from autofit.planning.data.step_count import step_count
from autofit.probing.protocol import Refused, Survey, Surveyed
from autofit.worker.data.training_data import TrainingData, training_data
from autofit.worker.training.argument_checks import check_arguments
from autofit.worker.training.epoch import check_whole_batch
from autofit.worker.training.schedule_arguments import schedule_notes
from autofit.worker.training.trainer_arguments import extra_arguments, stand_in_arguments

SAMPLE_ROWS = 1024  # whose lengths are told; packed to see how many rows that makes


def run(command: Survey) -> Surveyed | Refused:
    """The profile of the data, or the sentence that says why nothing can start."""
    try:
        return Surveyed(_profile(command.request))
    except UsageError as error:
        return Refused(str(error))
    except (ValueError, RuntimeError, OSError) as error:
        # trl, datasets and transformers speak for themselves here: nothing of ours runs yet
        return Refused(" ".join(str(error).split())[:500])


def _profile(request: Request) -> DataProfile:
    extra = extra_arguments(request)
    check_arguments(request, extra)
    data = training_data(request)
    train, evaluation = _seen_by_trl(request, data)
    example_count = len(data.train)
    if extra.get("packing"):
        example_count = round(example_count * len(train) / len(_spread(data.train)))
    if extra.get("dataloader_drop_last"):
        check_whole_batch(example_count, request.global_batch)
    return DataProfile(
        source=data.source,
        data_format=data.data_format,
        example_count=example_count,
        eval_example_count=len(data.evaluation) if data.evaluation is not None else 0,
        longest_tokens=max([*train, *evaluation]),
        sampled_lengths_tokens=tuple(sorted(train)),
        notes=(*data.notes, *schedule_notes(request, extra, step_count(request, example_count))),
        learned=data.learned,
        rows=data.rows,
        eval_rows=data.eval_rows,
    )


def _seen_by_trl(request: Request, data: TrainingData) -> tuple[list[int], list[int]]:
    """The lengths of the rows that the trainer makes of a sample of the data, for training and for evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            trainer = _stand_in_trainer(request, data, folder)
            _prepare(trainer, step_count(request, len(data.train)))
        except Exception as error:  # an argument after `--` that trl refuses, whatever it raises then
            said = " ".join(str(error).split())[:400] or type(error).__name__
            words = request.training.extra_arguments
            asked = f" with `-- {shlex.join(words)}`" if words else ""
            raise UsageError(f"trl refuses the training{asked}: {said}") from error
        return _lengths(trainer.train_dataset), _lengths(trainer.eval_dataset or [])


def _stand_in_trainer(request: Request, data: TrainingData, folder: str) -> SFTTrainer:
    return SFTTrainer(
        model=_stand_in(len(data.tokenizer)),
        args=stand_in_arguments(request, output_path=folder),
        train_dataset=_spread(data.train),
        eval_dataset=_spread(data.evaluation) if data.evaluation is not None else None,
        processing_class=data.tokenizer,
    )


def _prepare(trainer: SFTTrainer, steps: int) -> None:
    """Makes what a training makes when it begins: its optimizer, its schedule, and a batch of each data loader."""
    trainer.create_optimizer_and_scheduler(steps)
    loaders = [trainer.get_train_dataloader(), *([trainer.get_eval_dataloader()] if trainer.eval_dataset else [])]
    for loader in loaders:
        loader.collate_fn([loader.dataset[0]])


def _lengths(rows: Sequence[dict[str, list[int]]]) -> list[int]:
    return [len(row["input_ids"]) for row in rows]


def _spread(dataset: Dataset) -> Dataset:
    """The rows of a sample: at most SAMPLE_ROWS, evenly from the shortest to the longest."""
    if len(dataset) <= SAMPLE_ROWS:
        return dataset
    lengths = [len(ids) for ids in dataset["input_ids"]]
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    return dataset.select([by_length[i * (len(lengths) - 1) // (SAMPLE_ROWS - 1)] for i in range(SAMPLE_ROWS)])


def _stand_in(vocabulary_size: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
        )
    )
