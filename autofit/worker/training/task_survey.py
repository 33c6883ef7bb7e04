"""What the trainer of a task makes of rows that come without tokens: how many are trained on, and how long they are."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from autofit.domain.request import Request
from autofit.domain.task import Task
from autofit.domain.workload import RowCounts
from autofit.planning.data.step_count import check_prompts, step_count
from autofit.planning.data.truncation import RowExtent, Truncation, count_rows
from autofit.worker.data.cutting import truncation_of
from autofit.worker.data.embedding import embedding_count
from autofit.worker.data.prepared_rows import lost_notes, nothing_left, unknown_token
from autofit.worker.data.row_extents import SeenRows, seen_rows
from autofit.worker.data.training_data import TrainingData
from autofit.worker.training.stand_in import begin, stand_in_trainer
from autofit.worker.training.surveyed_rows import SurveyedRows, sample


def surveyed_rows(request: Request, data: TrainingData, extra: Mapping[str, Any]) -> SurveyedRows:
    """Has the stand-in trainer prepare all rows, and then begin a training with those that it keeps. UsageError where
    nothing is left; raises what trl raises."""
    cutting = truncation_of(request, extra)
    train, evaluation, notes = _looked_at(request, data)
    _check_tokens(request, data, train, evaluation)
    counts, eval_counts = _counted(request, train, evaluation, cutting)
    kept, eval_kept = _kept(train, cutting), _kept(evaluation, cutting)
    _check_left(data.source, kept, counts, cutting)
    if data.evaluation is not None:
        _check_left(request.eval_data or data.source, eval_kept, eval_counts or counts, cutting)
    if request.task.traits.generates:
        check_prompts(request, data.source, len(kept))
    _begin(request, data, len(kept))
    return SurveyedRows(
        example_count=len(kept),
        eval_example_count=len(eval_kept),
        sampled_lengths=sample(sorted(_cut(row, cutting) for row in kept)),
        longest_tokens=max(_cut(row, cutting) for row in [*kept, *eval_kept]),
        rows=counts,
        eval_rows=eval_counts,
        notes=(*notes, *(lost_notes(train.extents, cutting) if _are_numbered(request, data, train) else ())),
    )


def _counted(
    request: Request, train: SeenRows, evaluation: SeenRows, cutting: Truncation
) -> tuple[RowCounts, RowCounts | None]:
    """What becomes of the rows of the training data, with the share that is evaluated on, and of evaluation data of its
    own."""
    if request.eval_data is None:
        return count_rows([*train.extents, *evaluation.extents], cutting, request.allowed_drop), None
    own = count_rows(evaluation.extents, cutting, request.allowed_drop)
    return count_rows(train.extents, cutting, request.allowed_drop), own


def _are_numbered(request: Request, data: TrainingData, train: SeenRows) -> bool:
    """Whether the trainer's rows stand in the order of the source, one for each: of a share they do not, nor when KTO
    has made two of each pair."""
    is_whole = data.evaluation is None or request.eval_data is not None
    return is_whole and len(train.extents) == len(data.train)


def _looked_at(request: Request, data: TrainingData) -> tuple[SeenRows, SeenRows, tuple[str, ...]]:
    """The rows for training and for evaluation as the trainer has prepared them, none of them left out, and notes."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = stand_in_trainer(request, data, folder=folder, cuts=False)
        evaluation = SeenRows([], -1) if data.evaluation is None else seen_rows(request, trainer, trainer.eval_dataset)
        train = seen_rows(request, trainer, trainer.train_dataset)
        return train, evaluation, _labels_note(request, trainer.train_dataset)


def _begin(request: Request, data: TrainingData, row_count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        begin(stand_in_trainer(request, data, folder=folder), step_count(request, row_count))


def _kept(rows: SeenRows, cutting: Truncation) -> list[RowExtent]:
    return [row for row in rows.extents if cutting.keeps(row)]


def _cut(row: RowExtent, cutting: Truncation) -> int:
    return row.length if cutting.limit_tokens is None else min(row.length, cutting.limit_tokens)


def _check_left(source: str, kept: list[RowExtent], counts: RowCounts, cutting: Truncation) -> None:
    if not kept:
        raise nothing_left(source, counts, cutting)


def _check_tokens(request: Request, data: TrainingData, *seen: SeenRows) -> None:
    """Checks that the model knows all tokens: without it the probe would pass, and the training die of an index."""
    size = embedding_count(request)
    for rows, source in zip(seen, (data.source, request.eval_data or data.source), strict=True):
        if size is not None and rows.highest_token >= size:
            raise unknown_token(source, rows.highest_token, size, len(data.tokenizer))


def _labels_note(request: Request, rows: Dataset) -> tuple[str, ...]:
    if request.task is not Task.KTO or len(set(rows["label"])) > 1:
        return ()
    kind = "good" if rows[0]["label"] else "bad"
    return (f"every answer is judged {kind}: there is nothing to tell it from",)
