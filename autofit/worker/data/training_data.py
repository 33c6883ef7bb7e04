"""What the trainer is given: the request's rows as tokens and labels, with the tokenizer that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.domain.workload import Learned, RowCounts
from autofit.planning.data.truncation import Truncation
from autofit.worker.training.trainer_arguments import extra_arguments

from .embedding import embedding_count
from .loaded_data import LoadedData, load, split_eval
from .prepared_rows import Preparation, prepare
from .row_tokens import RowTokenizer
from .stop_token import missing_stop, unshared_end
from .tokenizer import tokenizer_for


@dataclass(frozen=True)
class TrainingData:
    """What a trainer is given: `train` and `evaluation` have `input_ids` and `labels`, not yet cut at the sequence
    length; `notes` are for the user. `stop_token_id` ends a turn, and generation does not yet stop at it."""

    train: Dataset
    evaluation: Dataset | None
    tokenizer: PreTrainedTokenizerBase
    data_format: str
    source: str
    learned: Learned
    rows: RowCounts
    eval_rows: RowCounts | None
    stop_token_id: int | None
    notes: tuple[str, ...]


def training_data(request: Request) -> TrainingData:
    """Reads the request's data: the same rows in the survey and on every rank. UsageError says what is wrong, and in
    which row."""
    extra = extra_arguments(request)
    loaded = load(request.data)
    has_chats, size = loaded.data_format.is_conversational, embedding_count(request)
    evaluation = _like(loaded, load(request.eval_data, as_chats=has_chats)) if request.eval_data is not None else None
    tokenizer, note = tokenizer_for(request, extra, has_chats=has_chats, embedding_count=size)
    tokenize = RowTokenizer(tokenizer, request.learn, has_chats=has_chats)
    how = Preparation(truncation_of(request.sequence_length, extra), request.allowed_drop, size)
    made = prepare(loaded, tokenize, how)
    held_out = prepare(evaluation, tokenize, how) if evaluation is not None else None
    train, split = made.dataset, held_out.dataset if held_out is not None else None
    if evaluation is None:
        train, split = split_eval(made.dataset, request.eval_fraction, request.training.seed)
    notes = made.notes if held_out is None else (*made.notes, *(f"evaluation: {note}" for note in held_out.notes))
    stop, stop_notes = missing_stop(request, tokenizer, tokenize.turn_end)
    sample = ("no --data given: training on the sample of dialogues that ships with autofit",)
    return TrainingData(
        train=train,
        evaluation=split,
        tokenizer=tokenizer,
        data_format=loaded.data_format.value,
        source=loaded.source,
        learned=made.learned,
        rows=made.counts,
        eval_rows=held_out.counts if held_out is not None else None,
        stop_token_id=stop,
        notes=(
            *notes,
            *(() if request.data else sample),
            *([note] if note else []),
            *unshared_end(request, tokenizer),
            *stop_notes,
        ),
    )


def truncation_of(sequence_length: int, extra: dict[str, Any]) -> Truncation:
    """How trl's SFTTrainer cuts rows: where it packs them, by `packing_strategy`, which may divide rows instead."""
    if not extra.get("packing"):
        return Truncation(sequence_length, extra.get("truncation_mode", "keep_start") == "keep_start")
    return Truncation(sequence_length if extra.get("packing_strategy", "bfd") == "bfd" else None)


def _like(train: LoadedData, evaluation: LoadedData) -> LoadedData:
    """The evaluation rows, which must have the form of `train`."""
    if set(evaluation.dataset.column_names) != set(train.dataset.column_names):
        raise UsageError(
            f"{evaluation.source} holds {evaluation.data_format.value} data and {train.source} "
            f"{train.data_format.value} data; the two must have the same form"
        )
    return evaluation
