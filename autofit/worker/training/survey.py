"""Looks at the data through the trainer's own eyes: trl takes it for a stand-in model of one tiny layer."""

from __future__ import annotations

import contextlib
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset

from autofit.domain.errors import UsageError, error_text
from autofit.domain.request import Request
from autofit.domain.shell import shell_line
from autofit.domain.task import Task
from autofit.domain.workload import DataProfile
from autofit.planning.data.step_count import prompts_per_step, step_count
from autofit.probing.protocol import Foreseen, RowsMade, Survey, Surveyed, SurveyRefused
from autofit.worker.data.cutting import truncation_of
from autofit.worker.data.refused_rows import check_templates
from autofit.worker.data.row_columns import lengths
from autofit.worker.data.row_processes import LEAST_ROWS, OnRows, heard
from autofit.worker.data.training_data import TrainingData, loaded_sources, training_data
from autofit.worker.rank.raising_line import is_ours, raising_line
from autofit.worker.rank.seldom import Seldom
from autofit.worker.rewards.reward_check import check_rewards
from autofit.worker.training.argument_checks import check_arguments
from autofit.worker.training.epoch import check_whole_batch
from autofit.worker.training.schedule_arguments import schedule_notes
from autofit.worker.training.stand_in import begin, stand_in_trainer
from autofit.worker.training.surveyed_rows import SAMPLE_ROWS, SurveyedRows, sample
from autofit.worker.training.task_survey import surveyed_rows
from autofit.worker.training.trainer_arguments import extra_arguments

MANY_ROWS = 20_000  # take longer than a sample of them, whose look costs a second


def run(command: Survey, tell: Callable[[RowsMade | Foreseen], None] = lambda news: None) -> Surveyed | SurveyRefused:
    """The profile of the data, or the sentence that says why nothing can start; `tell` hears of it before."""
    try:
        with heard(_told_seldom(tell)):
            if command.foresees and (profile := _foreseen(command)) is not None:
                tell(Foreseen(profile))
            return Surveyed(_profile(command.request, _processes(command)))
    except UsageError as error:
        return SurveyRefused(str(error))
    except (ValueError, RuntimeError, OSError) as error:
        # trl, datasets and transformers speak for themselves here: nothing of ours runs yet
        return SurveyRefused(error_text(error, 500))
    except MemoryError:
        return SurveyRefused(
            "the memory of this host ran out while the data was read: free some of it, or take less data."
        )
    except Exception as error:
        if is_ours(error):
            raise
        traceback.print_exc()  # into the log
        said = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        where = f"({raising_line(error)}), over the data or its chat template; see {command.log_path}"
        return SurveyRefused(f"{said} {where}")


def _processes(command: Survey) -> int:
    return min(command.most_processes, len(os.sched_getaffinity(0)))


def _told_seldom(tell: Callable[[RowsMade], None]) -> OnRows:
    """Tells of looks at many rows, once in a while."""
    last = [RowsMade(0, 0)]
    seldom = Seldom(lambda: tell(last[0]))

    def on_rows(done: int, total: int) -> None:
        if total >= LEAST_ROWS:
            last[0] = RowsMade(done, total)
            seldom()

    return on_rows


def _foreseen(command: Survey) -> DataProfile | None:
    """What a sample foretells, rows taken to be as long as any may be; None where there are few, where nobody knows how
    long they may be, or where something is wrong, which is told better of all rows."""
    request = command.request
    try:
        loaded, _ = loaded_sources(request, _processes(command))
        if len(loaded.dataset) < MANY_ROWS or truncation_of(request, extra_arguments(request)).limit_tokens is None:
            return None
        seen = _profile(request, 1, sample_rows=SAMPLE_ROWS)
    except (UsageError, ValueError, RuntimeError, OSError):
        return None
    share = SAMPLE_ROWS / len(loaded.dataset)
    return replace(
        seen,
        example_count=round(seen.example_count / share),
        eval_example_count=round(seen.eval_example_count / share),
        longest_tokens=request.sequence_length,
        rows=None,
        eval_rows=None,
        is_foreseen=True,
    )


def _profile(request: Request, most_processes: int, sample_rows: int | None = None) -> DataProfile:
    if request.task.traits.generates:
        prompts_per_step(request)
    extra = extra_arguments(request)
    check_arguments(request, extra)
    data = training_data(request, most_processes=most_processes, sample_rows=sample_rows)
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
        said = error_text(error, 400)
        words = request.training.extra_arguments
        asked = f" with `-- {shell_line(words)}`" if words else ""
        raise UsageError(f"trl refuses the training{asked}: {said}") from error


def _tokenized_rows(request: Request, data: TrainingData, extra: Mapping[str, Any]) -> SurveyedRows:
    """The rows that the trainer makes of a sample of the data, for training and for evaluation."""
    train, evaluation = _spread(data.train), _spread(data.evaluation) if data.evaluation is not None else None
    with tempfile.TemporaryDirectory() as folder:
        trainer = stand_in_trainer(request, replace(data, train=train, evaluation=evaluation), folder=folder)
        begin(trainer, step_count(request, len(data.train)))
        packed, eval_packed = _lengths(trainer.train_dataset), _lengths(trainer.eval_dataset)
    example_count = len(data.train)
    is_packed_in_part = bool(extra.get("packing")) and len(train) < len(data.train)
    if extra.get("packing"):
        example_count = round(example_count * len(packed) / len(train))
    return SurveyedRows(
        example_count=example_count,
        eval_example_count=len(data.evaluation) if data.evaluation is not None else 0,
        sampled_lengths=sorted(packed),
        longest_tokens=_longest(request, [*packed, *eval_packed], is_packed_in_part),
        rows=data.rows,
        eval_rows=data.eval_rows,
    )


def _longest(request: Request, seen: Sequence[int], is_packed_in_part: bool) -> int:
    """The longest row that the trainer will have: of all rows together packing may fill one up that it did not fill of
    a sample."""
    return request.sequence_length if is_packed_in_part else max(seen)


def _lengths(rows: Dataset | None) -> list[int]:
    return lengths(rows) if rows else []


def _spread(dataset: Dataset) -> Dataset:
    """The rows of a sample, evenly from the shortest to the longest."""
    tokens = lengths(dataset)
    chosen = sample(sorted(range(len(tokens)), key=tokens.__getitem__))
    return dataset.select(chosen) if len(chosen) < len(dataset) else dataset
