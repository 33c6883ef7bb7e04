"""Looks at the data through the trainer's own eyes: trl prepares it for a stand-in model of one tiny layer."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, concatenate_datasets
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.domain.workload import DataProfile
from autofit.probing.protocol import Refused, Survey, Surveyed
from autofit.worker.arguments import extra_arguments
from autofit.worker.data import LoadedData, load, split_eval
from autofit.worker.model import load_tokenizer
from autofit.worker.optimizers import check_optimizer
from autofit.worker.template import ensure_chat_template

SAMPLE_ROWS = 1024  # tokenized for the lengths; the longest by characters are always among them
LONGEST_ROWS = 64


@dataclass(frozen=True)
class TrainingData:
    """What the trainer is given; `notes` are sentences for the user."""

    train: Dataset
    evaluation: Dataset | None
    data_format: str
    source: str
    notes: tuple[str, ...]


def training_data(request: Request) -> TrainingData:
    """Loads the request's data; the same split in the survey and on every rank. UsageError says what is wrong."""
    loaded = load(request.data)
    notes = list(loaded.notes)
    if request.data is None:
        notes.append("no --data given: training on the sample of dialogues that ships with autofit")
    train, evaluation = loaded.dataset, None
    if request.eval_data is not None:
        evaluation = _same_format(load(request.eval_data), loaded)
    elif request.eval_fraction > 0:
        train, evaluation = split_eval(train, request.eval_fraction, request.training.seed)
    return TrainingData(train, evaluation, loaded.data_format.value, loaded.source, tuple(notes))


def _same_format(evaluation: LoadedData, train: LoadedData) -> Dataset:
    if set(evaluation.dataset.column_names) != set(train.dataset.column_names):
        raise UsageError(
            f"{evaluation.source} holds {evaluation.data_format.value} data and {train.source} "
            f"{train.data_format.value} data; the two must have the same form"
        )
    return evaluation.dataset


def tokenizer_for(request: Request, data: TrainingData) -> tuple[PreTrainedTokenizerBase, str | None]:
    """The model's tokenizer, with a chat template where the data needs one; a note when it was given one."""
    tokenizer = load_tokenizer(request.model)
    return tokenizer, ensure_chat_template(tokenizer, "messages" in data.train.column_names)


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
    check_optimizer(request)
    extra = extra_arguments(request.training.extra_arguments)
    data = training_data(request)
    tokenizer, note = tokenizer_for(request, data)
    sample = _sample(data.train)
    lengths = sorted(_lengths(request, extra, sample, tokenizer))
    eval_lengths = _lengths(request, extra, _sample(data.evaluation), tokenizer) if data.evaluation is not None else []
    if data.evaluation is not None and not eval_lengths:
        raise UsageError(
            f"{request.eval_data or data.source}: the evaluation data has nothing to score within "
            f"{request.sequence_length} tokens; give other data or a larger --seq"
        )
    if not lengths:
        raise UsageError(f"{data.source}: not one example is left after tokenizing to {request.sequence_length} tokens")
    return DataProfile(
        source=data.source,
        data_format=data.data_format,
        example_count=round(len(data.train) * len(lengths) / len(sample)),
        eval_example_count=len(data.evaluation) if data.evaluation is not None else 0,
        longest_tokens=max([lengths[-1], *eval_lengths]),
        sampled_lengths_tokens=tuple(lengths),
        notes=(*data.notes, *([note] if note else [])),
    )


def _sample(dataset: Dataset) -> Dataset:
    if len(dataset) <= SAMPLE_ROWS:
        return dataset
    sizes = [len(str(row)) for row in dataset]
    longest = sorted(range(len(sizes)), key=sizes.__getitem__)[-LONGEST_ROWS:]
    some = random.Random(0).sample(range(len(sizes)), SAMPLE_ROWS - LONGEST_ROWS)
    return concatenate_datasets([dataset.select(some), dataset.select(longest)])


def _lengths(request: Request, extra: dict[str, Any], sample: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        values = {"max_length": request.sequence_length, **extra, "report_to": "none", "use_cpu": True, "bf16": False}
        arguments = SFTConfig(output_dir=folder, **values)
        trainer = SFTTrainer(
            model=_stand_in(len(tokenizer)), args=arguments, train_dataset=sample, processing_class=tokenizer
        )
        return [len(ids) for ids in trainer.train_dataset["input_ids"]]


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
