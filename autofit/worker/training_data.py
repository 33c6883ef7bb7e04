"""What the trainer is given: the request's rows as tokens and labels, with the tokenizer that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.domain.workload import Learned, RowCounts
from autofit.planning.cut import Cut

from .arguments import extra_arguments
from .data import LoadedData, load, split_eval
from .model import load_tokenizer
from .prepared import Prepared, prepare
from .row_tokens import RowTokenizer
from .template import ensure_chat_template
from .turn_end import TurnEnd


@dataclass(frozen=True)
class TrainingData:
    """`train` and `evaluation` have `input_ids` and `labels`, not yet cut at the sequence length; `notes` are for the
    user. `stop_token_id` ends a turn, and generation does not yet stop at it."""

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
    """The same rows in the survey and on every rank. UsageError says what is wrong, and in which row."""
    extra = extra_arguments(request.training.extra_arguments)
    loaded = load(request.data)
    evaluation = _same_form(load(request.eval_data), loaded) if request.eval_data is not None else None
    tokenizer, note = tokenizer_for(request, loaded, extra)
    tokenize = RowTokenizer(tokenizer, request.learn, has_chats=loaded.data_format.is_conversational)
    made = _prepare(request, loaded, tokenize, extra)
    held_out = _prepare(request, evaluation, tokenize, extra) if evaluation is not None else None
    train, split = made.dataset, held_out.dataset if held_out is not None else None
    if evaluation is None:
        train, split = split_eval(made.dataset, request.eval_fraction, request.training.seed)
    stop, stop_notes = _stop(request, tokenizer, tokenize.turn_end)
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
        notes=(*made.notes, *(() if request.data else sample), *([note] if note else []), *stop_notes),
    )


def tokenizer_for(
    request: Request, data: LoadedData, extra: dict[str, Any]
) -> tuple[PreTrainedTokenizerBase, str | None]:
    """The model's tokenizer as `extra` alters it, with a chat template where the data needs one; a note when it was
    given one. UsageError where it lacks what the data needs."""
    try:
        tokenizer = load_tokenizer(request.model)
    except Exception as error:  # files of every age and make: transformers raises what it likes
        raise UsageError(f"the tokenizer of {request.model} cannot be loaded: {_one_line(error)}") from error
    if (eos := extra.get("eos_token")) is not None:
        if eos not in tokenizer.get_vocab():
            raise UsageError(f"training argument --eos_token {eos} is no token of {request.model}")
        tokenizer.eos_token = eos
    if (path := extra.get("chat_template_path")) is not None:
        tokenizer.chat_template = _template(path)
    if tokenizer.eos_token is None and not data.data_format.is_conversational:
        raise UsageError(
            f"the tokenizer of {request.model} has no end-of-sequence token, which ends a text or an answer; "
            "set eos_token in its tokenizer_config.json, or give it as `-- --eos_token TOKEN`."
        )
    return tokenizer, ensure_chat_template(tokenizer, data.data_format.is_conversational)


def stop_also_at(config: GenerationConfig, token_id: int) -> None:
    """Generation with `config` ends at this token, too."""
    config.eos_token_id = [*_listed(config.eos_token_id), token_id]


def _template(path: str) -> str:
    if not path.endswith((".jinja", ".j2")) or not Path(path).is_file():
        raise UsageError(f"training argument --chat_template_path {path} is no .jinja file; name one")
    return Path(path).read_text("utf-8")


def _prepare(request: Request, loaded: LoadedData, tokenize: RowTokenizer, extra: dict[str, Any]) -> Prepared:
    return prepare(
        loaded,
        tokenize,
        cut=cut_of(request.sequence_length, extra),
        allowed_drop=request.allowed_drop,
        embedding_count=_embedding_count(request.model),
    )


def cut_of(sequence_length: int, extra: dict[str, Any]) -> Cut:
    """How trl's SFTTrainer cuts rows: where it packs them, by `packing_strategy`, which may divide rows instead."""
    if not extra.get("packing"):
        return Cut(sequence_length, extra.get("truncation_mode", "keep_start") == "keep_start")
    return Cut(sequence_length if extra.get("packing_strategy", "bfd") == "bfd" else None)


def _same_form(evaluation: LoadedData, train: LoadedData) -> LoadedData:
    if set(evaluation.dataset.column_names) != set(train.dataset.column_names):
        raise UsageError(
            f"{evaluation.source} holds {evaluation.data_format.value} data and {train.source} "
            f"{train.data_format.value} data; the two must have the same form"
        )
    return evaluation


def _embedding_count(model: str) -> int | None:
    """None where the config does not say."""
    return getattr(AutoConfig.from_pretrained(model).get_text_config(), "vocab_size", None)


def _stop(
    request: Request, tokenizer: PreTrainedTokenizerBase, end: TurnEnd | None
) -> tuple[int | None, tuple[str, ...]]:
    if end is None:
        return None, ()
    if not end.learned:
        return None, ("generation will not stop: the chat template ends no turn with a token of its own",)
    token = end.missing([*_listed(tokenizer.eos_token_id), *_listed(_generation_eos(request.model))])
    if token is None:
        return None, ()
    return token, (f"{tokenizer.decode([token])} ends a turn: the saved generation config stops at it, too",)


def _generation_eos(model: str) -> int | Sequence[int] | None:
    try:
        return GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:  # it has none: the model's own is made from its config
        return getattr(AutoConfig.from_pretrained(model).get_text_config(), "eos_token_id", None)


def _listed(ids: int | Sequence[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
