"""A trainer whose checkpoints are whole or not there, and that goes on where the disk has no room for one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from autofit.process.saved_steps import is_saved, step_folder
from autofit.worker.deepspeed.engine_saving import recorded_saves
from autofit.worker.fused_update.fused_trainer import FusedTrainer
from autofit.worker.saving.checkpoint_folder import CheckpointFolder
from autofit.worker.saving.ranks import decided, first_of_all, rank_index
from autofit.worker.saving.write_failure import NotWritten, WriteFailure, write


class SavingTrainer(FusedTrainer):
    """Stands before trl's trainer of a task, and takes the place of transformers' way to save a checkpoint and to
    remove others: every file is written apart, by the trainers after it, and all of them get their name in one move.

    What the disk says against a file is kept until every rank can be asked, so that none waits for another in vain.
    `tell` hears what people should know.
    """

    tell: Callable[[str], None] = staticmethod(lambda note: None)

    def __init__(self, **kwargs: Any) -> None:
        self._failure: WriteFailure | None = None
        self._is_apart = False
        super().__init__(**kwargs)
        self._checkpoints = CheckpointFolder(Path(self.args.output_dir), self.args.save_total_limit)
        # With a limit of one transformers removes the last checkpoint before the model is saved (_finalize_training).
        self.args.save_total_limit = None

    def save_trained(self, folder: str) -> None:
        """Saves the trained model; every rank calls it. Older checkpoints give room; else NotWritten says what is
        kept."""
        while True:
            try:
                self.save_model(folder)
                return
            except NotWritten as error:
                if error.failure.is_full and self._has_made_room():
                    continue
                raise NotWritten(
                    error.failure, f"{error}. It was trained to its end, and {self._kept_text()}"
                ) from error

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Saves a checkpoint, for which older ones give room; where there is none the training goes on without it."""
        written, best = partial(super()._save_checkpoint, model, trial), self.state.best_model_checkpoint
        while (failure := self._save_apart(written, best)) is not None:
            self.state.best_model_checkpoint = best
            if not failure.is_full:
                raise NotWritten(failure, f"no checkpoint can be written into {self._folder} ({failure}): see to that")
            if not self._has_made_room():
                told = f"no checkpoint can be saved in {self._folder} ({failure})"
                self.tell(f"{told}: the training {self._onward_text()}; {self._kept_text()}")
                return
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(step_folder(self._folder, self.state.global_step)))

    def _save_apart(self, written: Callable[[], None], best: str | None) -> WriteFailure | None:
        """Has all ranks write a checkpoint, and the first one name it; what keeps them from it, the same on all."""
        step, checkpoints = self.state.global_step, self._checkpoints
        failure = (
            self._on_nodes(checkpoints.begin)
            or first_of_all(self._write_apart(written))
            or self._on_nodes(lambda: checkpoints.flush(step))
            or first_of_all(self._seal(step, best))
        )
        self._on_nodes(checkpoints.discard if failure else lambda: checkpoints.name_elsewhere(step))
        if failure is None and rank_index() == 0:
            checkpoints.rotate(step, self.state.best_model_checkpoint)
        return failure

    def _on_nodes(self, action: Callable[[], None]) -> WriteFailure | None:
        """Has one rank of each node do it, and waits for them."""
        return first_of_all(write(action) if self.args.local_process_index == 0 else None)

    def _write_apart(self, written: Callable[[], None]) -> WriteFailure | None:
        """Writes this rank's part to where the folders of checkpoints are said to be for now."""
        self._failure, self._is_apart = None, True
        try:
            self._record(written)
        finally:
            self._is_apart = False
        return self._failure

    def _seal(self, step: int, best: str | None) -> WriteFailure | None:
        """Names what is written, on the first rank; its own state tells of the best checkpoint by its name to be."""
        own = self.state.best_global_step
        has_best = own and (own == step or is_saved(self._folder, own))
        self.state.best_model_checkpoint = str(step_folder(self._folder, own)) if has_best else best
        if rank_index() > 0:
            return None
        return write(lambda: self._name(step))

    def _name(self, step: int) -> None:
        self.state.save_to_json(str(step_folder(self._checkpoints.partial, step) / TRAINER_STATE_NAME))
        self._checkpoints.name(step)

    def _save_whole(self, saved: Callable[[], None], folder: Path) -> None:
        """Has the first rank write a model that is not written in a stream; NotWritten on all ranks."""
        failure = first_of_all(write(saved))
        if failure is not None:
            raise NotWritten(failure, f"{folder} cannot be written ({failure}): see to that there")

    def _record(self, action: Callable[[], object]) -> None:
        failure = write(action)
        self._failure = self._failure or failure

    def _has_made_room(self) -> bool:
        return decided(lambda: self._checkpoints.make_room(self.state.best_model_checkpoint))

    def _onward_text(self) -> str:
        is_ending = self.control.should_training_stop
        return "ends without it" if is_ending else "goes on, and tries again when the next one is due"

    def _kept_text(self) -> str:
        last = self._checkpoints.last
        return "no checkpoint is kept" if last is None else f"{last.name} is the last that is kept"

    @property
    def _folder(self) -> Path:
        return Path(self.args.output_dir)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._checkpoints.partial) if self._is_apart else super()._get_output_dir(trial)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        self._record(partial(super().create_model_card, *args, **kwargs))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        is_engine = self.is_deepspeed_enabled
        with recorded_saves(self.deepspeed, Path(output_dir), self._record) if is_engine else nullcontext():
            self._record(partial(super()._save_optimizer_and_scheduler, output_dir))

    def _save_scaler(self, output_dir: str) -> None:
        self._record(partial(super()._save_scaler, output_dir))

    def _save_rng_state(self, output_dir: str) -> None:
        self._record(partial(super()._save_rng_state, output_dir))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Pushes what has its name; transformers asks for it before."""
        if not self._is_apart:
            super()._push_from_checkpoint(checkpoint_folder)
