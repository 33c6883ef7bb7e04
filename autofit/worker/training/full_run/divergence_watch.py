"""The judge of a training at its side: ends it when it has diverged, and keeps the checkpoints from before."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from autofit.domain.divergence import ChangedNothing, EndedNotFinite, Stopped
from autofit.domain.request import OnDivergence
from autofit.process.saved_steps import last_whole, set_aside
from autofit.worker.deepspeed.engine_watch import StepListener
from autofit.worker.rank.failure import TrainingDiverged
from autofit.worker.training.full_run.divergence_judge import Judge, Trouble
from autofit.worker.training.trainer import PhasedTrainer


class DivergenceWatch(TrainerCallback, StepListener):
    """Raises TrainingDiverged, on every rank at the same step, where the training is over. It listens to the steps as
    well.

    While something is wrong nothing is saved, so that no sound checkpoint is rotated out for a broken one; the
    checkpoint that was due is saved with the next sound step.
    """

    def __init__(self, trainer: PhasedTrainer, action: OnDivergence) -> None:
        self._trainer = trainer
        self._action = action
        self._judge = Judge(0, scales_loss=trainer.args.fp16)
        self._is_save_due = False
        self._was_skipped = False
        self._learning_rate = 0.0
        self._step_count = 0
        self._moved_count = 0
        self.skipped_steps = 0  # since this start

    @property
    def trouble(self) -> Trouble | None:
        return self._judge.trouble

    def on_train_begin(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        self._judge = Judge(state.global_step, scales_loss=self._trainer.args.fp16)

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._learning_rate = self._trainer._get_learning_rate()  # before the schedule goes on

    def step_end(self, *, was_skipped: bool) -> None:
        self._was_skipped = was_skipped
        self.skipped_steps += was_skipped

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        norm = self._trainer.gradient_norm
        self._step_count += 1
        self._moved_count += not self._was_skipped and self._learning_rate > 0 and norm != 0
        self._judge.take_gradient(state.global_step, norm, was_skipped=self._was_skipped)
        self._follow_judge(control)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            self._judge.take_loss(state.global_step, float(logs["loss"]))
            self._follow_judge(control)
        state.log_history[-1] = {name: _jsonable(value) for name, value in state.log_history[-1].items()}

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._follow_judge(control)  # where a checkpoint may be due as well

    def _follow_judge(self, control: TrainerControl) -> None:
        trouble = self.trouble
        if trouble is not None and trouble.is_persistent and self._action is OnDivergence.STOP:
            raise TrainingDiverged(Stopped(trouble.symptom, trouble.first_step, self._keep_good(trouble)))
        is_due = control.should_save or self._is_save_due
        self._is_save_due = is_due and trouble is not None
        control.should_save = is_due and trouble is None

    def check_end(self, loss: float | None, eval_loss: float | None) -> None:
        """Raises TrainingDiverged where what was trained is no model, or is the one that it began with."""
        for is_evaluation, value in ((False, loss), (True, eval_loss)):
            if value is not None and not math.isfinite(value):
                first_step = None if self.trouble is None else self.trouble.first_step
                raise TrainingDiverged(EndedNotFinite(is_evaluation, first_step, self._keep_good(self.trouble)))
        if self._step_count and not self._moved_count:
            raise TrainingDiverged(ChangedNothing(was_skipped=self.skipped_steps == self._step_count))

    def _keep_good(self, trouble: Trouble | None) -> str | None:
        """Keeps the last checkpoint from before the trouble; those from after it are set aside."""
        folder = Path(self._trainer.args.output_dir)
        good_step = self._trainer.state.global_step if trouble is None else trouble.good_step
        good = last_whole(folder, good_step)
        if self._trainer.is_world_process_zero():
            set_aside(folder, good_step)
        return None if good is None else str(good)


def _jsonable(value: Any) -> Any:
    """A value that JSON can say: it has no word for what is not finite, and a checkpoint keeps the log."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
