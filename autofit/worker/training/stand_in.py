"""Trainers of trl with a model of one tiny layer: what they make of data, the full run's trainer makes of it too."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerBase
from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer, SFTTrainer

from autofit.domain.request import Request
from autofit.domain.task import Task
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
    common = {
        "args": arguments,
        "train_dataset": train,
        "eval_dataset": evaluation,
        "processing_class": tokenizer,
    }
    size = len(tokenizer)
    if request.task is Task.REWARD:
        return RewardTrainer(model=LlamaForSequenceClassification(_tiny(size, num_labels=1)), **common)
    if request.task is Task.DPO:
        return DPOTrainer(model=_model(size), ref_model=_model(size), **common)
    if request.task is Task.KTO:
        return KTOTrainer(model=_model(size), ref_model=_model(size), **common)
    if request.task is Task.GRPO:
        return GRPOTrainer(model=_model(size), reward_funcs=_nothing, **common)
    return SFTTrainer(model=_model(size), **common)


def begin(trainer: Any, steps: int) -> None:
    """Makes what a training makes when it begins: its optimizer, its schedule, and a batch of each data loader."""
    trainer.create_optimizer_and_scheduler(steps)
    loaders = [trainer.get_train_dataloader(), *([trainer.get_eval_dataloader()] if trainer.eval_dataset else [])]
    for loader in loaders:
        loader.collate_fn([loader.dataset[0]])


def _nothing(completions: list[Any], **_: Any) -> list[float]:
    """Rewards nothing: no answer is generated here."""
    return [0.0] * len(completions)


def _model(vocabulary_size: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(_tiny(vocabulary_size))


def _tiny(vocabulary_size: int, **further: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        **further,
    )
