"""Looks at the data through the trainer's own eyes: trl takes it for a stand-in model of one tiny layer."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datasets import Dataset

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.domain.task import Task
from autofit.domain.workload import DataProfile
from autofit.planning.data.step_count import prompts_per_step, step_count
from autofit.probing.protocol import Refused, Survey, Surveyed
from autofit.worker.data.refused_rows import check_templates
from autofit.worker.data.training_data import TrainingData, loaded_sources, training_data
from autofit.worker.rewards.reward_check import check_rewards
from autofit.worker.training.argument_checks import check_arguments
from autofit.worker.training.epoch import check_whole_batch
from autofit.worker.training.schedule_arguments import schedule_notes
from autofit.worker.training.stand_in import begin, stand_in_trainer
from autofit.worker.training.surveyed_rows import SurveyedRows, sample
from autofit.worker.training.task_survey import surveyed_rows
from autofit.worker.training.trainer_arguments import extra_arguments


def run(command: Survey) -> Surveyed | Refused:
    """The profile of the data, or the sentence that says why nothing can start."""
    try:
        return Surveyed(_profile(command.request))
    except UsageError as error:
        return Refused(str(error))
    except (ValueError, RuntimeError, OSError) as error:
        # trl, datasets and transformers speak for themselves here: nothing of ours runs yet
        return Refused(" ".join(str(error).split())[:500])
    except MemoryError:
        return Refused("the memory of this host ran out while the data was read: free some of it, or take less data.")


def _profile(request: Request) -> DataProfile:
    if request.task.traits.generates:
        prompts_per_step(request)
    extra = extra_arguments(request)
    check_arguments(request, extra)
    data = training_data(request)
    check_rewards(request, data)
    seen = _seen_by_trl(request, data, extra)
    if extra.get("dataloader_drop_last") and not request.task.traits.generates:
        check_whole_batch(seen.example_count, request.global_batch)
    schedule = schedule_notes(request, extra, step_count(request, seen.example_count))
    return DataProfile(
        source=data.source,
        data_format=data.data_format,
        example_count=seen.example_count,
        eval_example_count=seen.eval_example_count,
        longest_tokens=seen.longest_tokens,
        sampled_lengths_tokens=tuple(seen.sampled_lengths),
        notes=(*data.notes, *seen.notes, *schedule),
        learned=data.learned,
        rows=seen.rows,
        eval_rows=seen.eval_rows,
    )


def _seen_by_trl(request: Request, data: TrainingData, extra: Mapping[str, Any]) -> SurveyedRows:
    with _refusals_of_trl(request, data):
        if request.task is Task.SFT:
            return _tokenized_rows(request, data, extra)
        return surveyed_rows(request, data, extra)


@contextlib.contextmanager
def _refusals_of_trl(request: Request, data: TrainingData) -> Iterator[None]:
    """Says what trl raises as a UsageError: over a row, which is named then, or over an argument after `--`."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # trl raises what it likes
        if request.task is not Task.SFT:  # whose rows are tokens already
            for loaded in filter(None, loaded_sources(request)):
                check_templates(loaded, data.tokenizer)
        said = " ".join(str(error).split())[:400] or type(error).__name__
        words = request.training.extra_arguments
        asked = f" with `-- {shlex.join(words)}`" if words else ""
        raise UsageError(f"trl refuses the training{asked}: {said}") from error


def _tokenized_rows(request: Request, data: TrainingData, extra: Mapping[str, Any]) -> SurveyedRows:
    """The rows that the trainer makes of a sample of the data, for training and for evaluation."""
    train, evaluation = _spread(data.train), _spread(data.evaluation) if data.evaluation is not None else None
    with tempfile.TemporaryDirectory() as folder:
        trainer = stand_in_trainer(request, data.tokenizer, train, evaluation, folder=folder)
        begin(trainer, step_count(request, len(data.train)))
        lengths, eval_lengths = _lengths(trainer.train_dataset), _lengths(trainer.eval_dataset or [])
    example_count = len(data.train)
    if extra.get("packing"):
        example_count = round(example_count * len(lengths) / len(train))
    return SurveyedRows(
        example_count=example_count,
        eval_example_count=len(data.evaluation) if data.evaluation is not None else 0,
        sampled_lengths=sorted(lengths),
        longest_tokens=max([*lengths, *eval_lengths]),
        rows=data.rows,
        eval_rows=data.eval_rows,
    )


def _lengths(rows: Sequence[dict[str, list[int]]]) -> list[int]:
    return [len(row["input_ids"]) for row in rows]


def _spread(dataset: Dataset) -> Dataset:
    """The rows of a sample, evenly from the shortest to the longest."""
    lengths = [len(ids) for ids in dataset["input_ids"]]
    chosen = sample(sorted(range(len(lengths)), key=lengths.__getitem__))
    return dataset.select(chosen) if len(chosen) < len(dataset) else dataset
