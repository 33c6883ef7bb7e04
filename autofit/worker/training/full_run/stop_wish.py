"""A full run that is asked to end: all ranks save the same step, and end after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from autofit.process.saved_steps import is_saved
from autofit.worker.rank.failure import TrainingStopped
from autofit.worker.training.full_run.step_agreement import agreed
from autofit.worker.training.full_run.stop_signals import StopSignals


class StopWish(TrainerCallback):
    """A Wish, and what follows from it: raises TrainingStopped on every rank once the checkpoint is there.

    A signal during an evaluation or a save is heard at its end, so that no further step is trained and nothing is saved
    twice. While the training is in trouble nothing is saved, and it goes on until it is sound again. The last of a
    trainer's callbacks.
    """

    def __init__(self, signals: StopSignals, device: torch.device) -> None:
        self._signals = signals
        self._device = device
        self._is_training = False

    def is_wanted(self, state: TrainerState) -> bool:
        return self._signals.heard is not None

    def grant(self, state: TrainerState, control: TrainerControl) -> None:
        control.should_save = True

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._is_training = True
        self._signals.listen()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._is_training = False  # what is left is to save the model: it is saved

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._is_training and self._agree(state):
            self.grant(state, control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._agree(state):  # a collective: whoever has passed it knows that every rank has saved
            step: int = state.global_step
            raise TrainingStopped(step if is_saved(Path(args.output_dir), step) else None, self._signals.heard)

    def _agree(self, state: TrainerState) -> bool:
        return agreed([self.is_wanted(state)], self._device)[0]
