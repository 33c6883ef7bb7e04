"""A training that goes on from a checkpoint: with its own settings, and not beyond its end."""

from __future__ import annotations

from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class GoingOn(TrainerCallback):
    """Puts right what transformers takes from the checkpoint, or does not look at."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        state.compute_steps(args, state.max_steps)  # when to save and to evaluate: the checkpoint's otherwise
        if state.global_step >= state.max_steps:
            # Killed between its last checkpoint and its end: without this one step more is trained.
            control.should_training_stop = True
            self._trainer.get_batch_samples = lambda *_: ([], None)
