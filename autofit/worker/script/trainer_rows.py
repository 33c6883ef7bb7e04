"""How rows of trl's trainers depend on each other: losses over a micro-batch, answers that are generated together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import lcm
from typing import Any

import transformers

from autofit.domain.script import Tie

_GIVEN = "_generation_as_given"
_ONE_OF = ("steps_per_generation", "generation_batch_size")  # that a user gives at most

_LOSSES_OF_A_MICRO_BATCH = {
    "KTOTrainer": {"kto"},  # how far the model has gone is estimated by each row's answer to another row's prompt
    "DPOTrainer": {"aot", "aot_unpaired", "sft"},  # sorted, or the mean of all tokens
    "GRPOTrainer": {"bnpo"},  # the mean of all tokens
}
"""The values of `loss_type` that mix the rows of a micro-batch, in trl 1.16 (`trl/trainer/*_trainer.py`)."""


@dataclass(frozen=True)
class TrainerRows:
    """What a trainer shows when it begins. `generation_steps`: optimizer steps from one generation of answers to the
    next; None where none are generated."""

    tie: Tie | None = None
    generation_steps: int | None = None


def watch_rows(tell: Callable[[TrainerRows], None], refuse: Callable[[str], object]) -> None:
    """Patches this process, before the script runs. `tell` hears of each trainer that begins; `refuse` hears why a
    script cannot be probed."""
    post_init, train = transformers.TrainingArguments.__post_init__, transformers.Trainer.train

    @functools.wraps(post_init)
    def noted(self: transformers.TrainingArguments) -> None:
        if getattr(self, "use_vllm", False) and getattr(self, "vllm_mode", "") == "server":
            refuse("its answers come from a vLLM server, to which a probe would send its weights")
        # trl fills in one by the other once this has ended.
        self.__dict__[_GIVEN] = tuple(getattr(self, name, None) for name in _ONE_OF)
        post_init(self)

    @functools.wraps(train)
    def told(self: transformers.Trainer, *args: Any, **kwargs: Any) -> Any:
        tell(rows_of(self))
        return train(self, *args, **kwargs)

    transformers.TrainingArguments.__post_init__, transformers.Trainer.train = noted, told


def rows_of(trainer: Any) -> TrainerRows:
    """How the rows of a trainer depend on each other; its arguments were made after `watch_rows`."""
    steps = _generation_steps(trainer.args)
    tie = Tie.LOSS if _has_loss_of_a_micro_batch(trainer) else None
    return TrainerRows(tie or (None if steps is None else _generation_tie(trainer.args)), steps)


def _has_loss_of_a_micro_batch(trainer: Any) -> bool:
    names = {kind.__name__ for kind in type(trainer).__mro__}
    mixing = set().union(*(losses for name, losses in _LOSSES_OF_A_MICRO_BATCH.items() if name in names))
    args = trainer.args
    losses = getattr(args, "loss_type", None) or ()
    has_bonus = getattr(args, "entropy_coef", 0.0) != 0.0 or getattr(args, "use_adaptive_entropy", False)
    is_masked = getattr(args, "top_entropy_quantile", 1.0) < 1.0  # by a quantile of the micro-batch
    return has_bonus or is_masked or not mixing.isdisjoint([losses] if isinstance(losses, str) else losses)


def _generation_steps(args: Any) -> int | None:
    """The answers of `steps_per_generation` micro-batches are generated at once, and learned from `num_iterations`
    times; steps begin with a generation again after their least common multiple."""
    micro_batches = getattr(args, "steps_per_generation", None)
    if micro_batches is None:
        return None
    accumulation: int = args.gradient_accumulation_steps
    return lcm(micro_batches * getattr(args, "num_iterations", 1), accumulation) // accumulation


def _generation_tie(args: Any) -> Tie | None:
    steps_per_generation, generation_batch = getattr(args, _GIVEN, (None, None))
    if steps_per_generation is not None:
        return Tie.STEPS_PER_GENERATION
    global_batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return None if generation_batch is None or generation_batch % global_batch == 0 else Tie.GENERATION_BATCH
