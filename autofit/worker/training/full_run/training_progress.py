"""What rank 0 of a full run tells while it trains: a line of JSON for whatever happens."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from autofit.domain.codec import to_json
from autofit.domain.event import Note, TrainingProgress
from autofit.process.best_effort_stream import PatientStream
from autofit.process.saved_steps import is_saved
from autofit.worker.rank.lifecycle import Rank
from autofit.worker.training.full_run.divergence_watch import DivergenceWatch
from autofit.worker.training.full_run.training_log import TrainingLog


class Progress(TrainerCallback):
    """Writes one TrainingProgress a line: at the start, at each log line, evaluation and checkpoint; and Notes."""

    def __init__(self, path: Path, rank: Rank, log: TrainingLog, watch: DivergenceWatch) -> None:
        self._file = PatientStream(path.open("a", buffering=1))
        self._rank = rank
        self._log = log
        self._watch = watch
        self._first_step = 0
        self._began_at_s = 0.0
        self._told: set[str] = set()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._first_step, self._began_at_s = state.global_step, time.monotonic()
        self._write(state, loss=self._log.last_loss)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        if "loss" in logs:
            self._write(state, loss=float(logs["loss"]))
        elif "eval_loss" in logs:
            self._write(state, loss=self._log.last_loss, eval_loss=float(logs["eval_loss"]))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        step: int = state.global_step
        saved_step = step if is_saved(Path(args.output_dir), step) else None
        self._write(state, loss=self._log.last_loss, saved_step=saved_step)

    def tell(self, text: str) -> None:
        """Writes a Note, once."""
        if text not in self._told:
            self._told.add(text)
            self._file.write(to_json(Note(text)) + "\n")

    def _write(
        self, state: TrainerState, *, loss: float | None, eval_loss: float | None = None, saved_step: int | None = None
    ) -> None:
        progress = TrainingProgress(
            step=state.global_step,
            step_count=state.max_steps,
            loss=loss,
            tokens_per_s=self._log.last_tokens_per_s,
            peak_device_bytes=self._rank.meter.peak_device_bytes(),
            left_s=self._left_s(state),
            skipped_steps=self._watch.skipped_steps,
            trouble=None if self._watch.trouble is None else str(self._watch.trouble),
            eval_loss=eval_loss,
            saved_step=saved_step,
            metrics=self._log.last_metrics,
        )
        self._file.write(to_json(progress) + "\n")

    def _left_s(self, state: TrainerState) -> float | None:
        """The seconds that are left, by the pace since the start."""
        done: int = state.global_step - self._first_step
        if not done:
            return None
        left_count: int = state.max_steps - state.global_step
        return (time.monotonic() - self._began_at_s) / done * left_count
