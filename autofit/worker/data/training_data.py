"""What the trainer is given: the request's rows in its form, with the tokenizer of the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from autofit.domain.errors import UsageError
from autofit.domain.request import Learn, Request
from autofit.domain.task import Task
from autofit.domain.workload import Learned, RowCounts
from autofit.worker.training.trainer_arguments import extra_arguments

from .chat_tokens import ChatTokenizer
from .chat_writer import ChatWriter
from .cutting import truncation_of
from .embedding import embedding_count
from .loaded_data import LoadedData, load, split_eval
from .prepared_rows import Preparation, prepare
from .row_tokens import RowTokenizer
from .stop_token import missing_stop, unshared_end
from .tokenizer import tokenizer_for
from .turn_end import TurnEnd


@dataclass(frozen=True)
class TrainingData:
    """What a trainer is given; `notes` are for the user. `stop_token_id` ends a turn, and generation does not yet stop
    at it.

    For supervised fine-tuning `train` and `evaluation` have `input_ids` and `labels`, not yet cut at the sequence
    length, and `rows` counts what becomes of them. For another task they have the columns of trl's trainer, which
    makes the tokens itself, and `rows` is None: the survey counts what the trainer makes of them.
    """

    train: Dataset
    evaluation: Dataset | None
    tokenizer: PreTrainedTokenizerBase
    data_format: str
    source: str
    learned: Learned
    rows: RowCounts | None
    eval_rows: RowCounts | None
    stop_token_id: int | None
    notes: tuple[str, ...]
    most_processes: int = 1  # that make what the trainer makes of the rows


@dataclass(frozen=True)
class _Rows:
    """The rows that a trainer is given, and what is known of them."""

    train: Dataset
    evaluation: Dataset | None
    end: TurnEnd | None
    learned: Learned
    notes: tuple[str, ...]
    eval_notes: tuple[str, ...] = ()
    counts: RowCounts | None = None
    eval_counts: RowCounts | None = None


def training_data(request: Request, *, most_processes: int = 1, sample_rows: int | None = None) -> TrainingData:
    """Reads the request's data: the same rows in the survey and on every rank. UsageError says what is wrong, and in
    which row. What no start before has made is made by so many processes at most. `sample_rows`: only so many of each
    source, spread over it."""
    extra = extra_arguments(request)
    loaded, evaluation = loaded_sources(request, most_processes)
    if sample_rows is not None:
        loaded, evaluation = loaded.spread(sample_rows), evaluation and evaluation.spread(sample_rows)
    has_chats, size = loaded.data_format.is_conversational, embedding_count(request)
    tokenizer, note = tokenizer_for(request, extra, has_chats=has_chats, embedding_count=size)
    if request.task is Task.SFT:
        how = Preparation(truncation_of(request, extra), request.allowed_drop, size, most_processes)
        rows = _tokenized(loaded, evaluation, RowTokenizer(tokenizer, request.learn, has_chats=has_chats), how)
    else:
        rows = _untokenized(request, loaded, evaluation, tokenizer)
    train, split = rows.train, rows.evaluation
    if evaluation is None:
        train, split = split_eval(rows.train, request.eval_fraction, request.training.seed)
    stop, stop_notes = missing_stop(request, tokenizer, rows.end)
    sample = (f"no --data given: training on the sample of {request.task.traits.sample_text} that ships with autofit",)
    return TrainingData(
        train=train,
        evaluation=split,
        tokenizer=tokenizer,
        data_format=loaded.data_format.value,
        source=loaded.source,
        learned=rows.learned,
        rows=rows.counts,
        eval_rows=rows.eval_counts,
        stop_token_id=stop,
        most_processes=most_processes,
        notes=(
            *rows.notes,
            *(f"evaluation: {note}" for note in rows.eval_notes),
            *(() if request.data else sample),
            *([note] if note else []),
            *unshared_end(request, tokenizer),
            *stop_notes,
        ),
    )


def loaded_sources(request: Request, most_processes: int = 1) -> tuple[LoadedData, LoadedData | None]:
    """The training data and the evaluation data of its own, None where there is none; the two have one form."""
    train = load(request.data, request.task, most_processes=most_processes)
    if request.eval_data is None:
        return train, None
    as_chats = train.data_format.is_conversational
    return train, _like(train, load(request.eval_data, request.task, as_chats=as_chats, most_processes=most_processes))


def _tokenized(loaded: LoadedData, evaluation: LoadedData | None, tokenize: RowTokenizer, how: Preparation) -> _Rows:
    made = prepare(loaded, tokenize, how)
    held_out = prepare(evaluation, tokenize, how) if evaluation is not None else None
    rows = _Rows(made.dataset, None, tokenize.turn_end, made.learned, made.notes, counts=made.counts)
    if held_out is None:
        return rows
    return replace(rows, evaluation=held_out.dataset, eval_notes=held_out.notes, eval_counts=held_out.counts)


def _untokenized(
    request: Request, loaded: LoadedData, evaluation: LoadedData | None, tokenizer: PreTrainedTokenizerBase
) -> _Rows:
    """The rows as they were loaded, in files, for trl's trainer makes their tokens on every rank."""
    is_generated = loaded.data_format.is_conversational and not request.task.traits.scores
    end = ChatTokenizer(ChatWriter(tokenizer), Learn.ASSISTANT).end if is_generated else None
    learned = request.task.traits.learned
    assert learned is not None  # of a task whose trainer makes the tokens
    rows = _Rows(_for_trainer(loaded), None, end, learned, loaded.notes)
    if evaluation is None:
        return rows
    return replace(rows, evaluation=_for_trainer(evaluation), eval_notes=evaluation.notes)


def _for_trainer(loaded: LoadedData) -> Dataset:
    return loaded.dataset.select_columns([name for name in loaded.dataset.column_names if name != "unheard"])


def _like(train: LoadedData, evaluation: LoadedData) -> LoadedData:
    """The evaluation rows, which must have the form of `train`."""
    columns, wanted = set(evaluation.dataset.column_names), set(train.dataset.column_names)
    if columns == wanted:
        return evaluation
    if evaluation.data_format is not train.data_format:
        raise UsageError(
            f"{evaluation.source} holds {evaluation.data_format.value} data and {train.source} "
            f"{train.data_format.value} data; the two must have the same form"
        )
    apart = ", ".join(sorted(columns ^ wanted))
    raise UsageError(f"{evaluation.source} and {train.source} must have the same columns; they differ in {apart}")
