"""Checkpoints by the clock: so many minutes of training, and no more, are ever repeated."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from autofit.domain.request import Training
from autofit.process.saved_steps import is_saved
from autofit.worker.training.full_run.step_agreement import Wish

_FIRST_S = 120.0  # a training that has taken so long is worth a first checkpoint
_MOST_SHARE = 0.1  # of the time that saving may take
_MOST_ASKED_SHARE = 0.5  # where somebody asked for its minutes
_STEPS = 10  # of different lengths: the longest of the last ones is what the next may take


class TimedSaves(TrainerCallback, Wish):
    """Wants a checkpoint after the first step or two minutes, whichever is later, and then as soon as one step more
    would leave more than `max_lost_s` to be repeated if the training were killed just before it is saved.

    Saving is kept to a tenth of the time, as measured, by longer pauses; to half of it where somebody has asked for
    other minutes than the default. The clock of rank 0 is everybody's: `is_keeper` there.
    """

    def __init__(self, training: Training, *, is_keeper: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_lost_s = 60 * training.max_lost_minutes
        is_asked = training.max_lost_minutes != Training().max_lost_minutes
        self._most_share = _MOST_ASKED_SHARE if is_asked else _MOST_SHARE
        self._is_keeper = is_keeper
        self._clock = clock
        self._steps_s: deque[float] = deque(maxlen=_STEPS)
        self._save_s = 0.0
        self._marked_s = self._saved_s = 0.0
        self._has_first = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._has_first = state.global_step > 0  # the checkpoint that it goes on from
        self._marked_s = self._saved_s = self._clock()

    def is_wanted(self, state: TrainerState) -> bool:
        """Called after each step, once."""
        self._steps_s.append(self._passed_s())
        if not self._is_keeper:
            return False
        since_s = self._clock() - self._saved_s
        return since_s >= self._pause_s or (not self._has_first and since_s >= _FIRST_S)

    @property
    def _pause_s(self) -> float:
        """From the end of one save to the beginning of the next."""
        pause_s = self._max_lost_s - max(self._steps_s) - self._save_s
        return max(pause_s, self._save_s * (1 / self._most_share - 1))

    def grant(self, state: TrainerState, control: TrainerControl) -> None:
        control.should_save = True

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        self._passed_s()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """After one that has failed for the disk the next is due as the first is."""
        self._save_s = self._passed_s()
        self._saved_s, self._has_first = self._marked_s, is_saved(Path(args.output_dir), state.global_step)

    def _passed_s(self) -> float:
        """Seconds since it was last asked."""
        before_s, self._marked_s = self._marked_s, self._clock()
        return self._marked_s - before_s
