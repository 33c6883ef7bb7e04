"""What the trainers of all tasks share, in the full run and in the probes: trl's trainer on DeepSpeed, or on torch's
DDP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

from autofit.domain.outcome import Phase
from autofit.process.saved_steps import saved_step
from autofit.worker.deepspeed.engine_watch import StepListener, StepWatch
from autofit.worker.fused_update.fused_trainer import FusedTrainer
from autofit.worker.saving.model_writer import ModelWriter
from autofit.worker.saving.stored_state import NotStreamed, stand_ins, stored_state
from autofit.worker.saving.written_dtype import in_dtype, tell_dtype
from autofit.worker.training.epoch import EpochOrder, check_whole_batch, filled_with_first
from autofit.worker.training.optimizers import on_flat_shares
from autofit.worker.training.pinned_blocks import keep_pinned_blocks
from autofit.worker.training.saving_trainer import SavingTrainer
from autofit.worker.training.trainer_watch import TrainerWatch

PhaseHook = Callable[[Phase], None]


class PhasedTrainer(SavingTrainer):
    """Stands before trl's trainer of a task. Calls `phase_hook` before each batch that it evaluates, with the model
    itself: no watch on its engine hears it; and before each tensor that it saves. `save_beside` adds files to a
    model's. `saved_dtype` is that of the model's files, None where they are as it trains; a checkpoint's are always so.

    Its steps and its order are those of one process with the whole batch, however the batch is divided. UsageError
    where there is no whole step.
    """

    phase_hook: PhaseHook = staticmethod(lambda phase: None)
    save_beside: Callable[[Path], object] = staticmethod(lambda folder: None)
    saved_dtype: torch.dtype | None = None
    prepared_column: str | None = None  # of rows that trl has prepared, which are left as they are; None: trl is asked
    train_dataset: Dataset
    eval_dataset: Dataset | None

    def __init__(self, *, model: Any, phase_hook: PhaseHook | None = None, **kwargs: Any) -> None:
        if phase_hook is not None:  # before trl's, some of which run the model
            self.phase_hook = phase_hook
        config = vars(model.config)
        had = {name: value for name, value in config.items() if name == "use_cache"}
        super().__init__(model=model, **kwargs)
        config.pop("use_cache", None)  # turned off by the trainer, which would save it so; trl's forward asks for none
        config.update(had)
        if (self.args.activation_checkpointing_kwargs or {}).get("offload"):
            keep_pinned_blocks()
        self._global_batch: int = (
            self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        )
        self._row_count = len(self.train_dataset)
        if self.args.dataloader_drop_last:
            check_whole_batch(self._row_count, self._rows_per_step)
        self._fill_rows()

    @property
    def _rows_per_step(self) -> int:
        """The rows of the data that make one optimizer step."""
        return self._global_batch

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        if self.prepared_column in dataset.column_names:
            return dataset
        prepared: Dataset = super()._prepare_dataset(dataset, *args, **kwargs)
        return prepared

    def _fill_rows(self) -> None:
        """Fills the last global batch of an epoch up."""
        self.train_dataset = filled_with_first(self.train_dataset, self._rows_per_step)

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: Any, model: Any = None) -> tuple[Any, Any]:
        kind, keywords = FusedTrainer.get_optimizer_cls_and_kwargs(args, model)
        return on_flat_shares(kind, args.optim), keywords

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        length = len(self.train_dataset)
        if self.args.dataloader_drop_last and length > self._row_count:
            length -= self._rows_per_step
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        step_count = length // self._rows_per_step
        return EpochOrder(self._row_count, length, seed, lambda: self.state.global_step // step_count)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not self.model.training:
            self.phase_hook(Phase.EVALUATE)
        return super().compute_loss(model, inputs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model, its adapter alone where it has one, with what stands beside it; every rank calls it."""
        folder = Path(output_dir or self.args.output_dir)
        dtype = None if saved_step(folder) is not None else self.saved_dtype
        try:
            state = stored_state(self.model)
            writer = ModelWriter(state if dtype is None else in_dtype(state, dtype), folder)
            writer.write(lambda place: self._save_rest(place, dtype), beat=lambda: self.phase_hook(Phase.SAVE))
        except NotStreamed as reason:
            self.tell(f"saving takes memory for a copy of the model, which is not written in a stream: {reason}")
            self._save_whole(partial(super().save_model, str(folder), _internal_call=True), folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_rest(self, folder: Path, dtype: torch.dtype | None) -> None:
        """Saves all but the weights: configurations, which name `dtype`, tokenizer, the trainer's arguments."""
        self._save(str(folder), stand_ins(self.model))
        if dtype is not None:
            tell_dtype(folder, dtype)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, None if state_dict is None else _with_ties(self.model, state_dict))
        if self.args.should_save:
            self.save_beside(Path(output_dir or self.args.output_dir))


def _with_ties(model: torch.nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """The state with one tensor a parameter: accelerate clones them name by name, and a tied one would be saved
    twice."""
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if name in state and first in state:
            state[name] = state[first]
    return state


class Unmeasured(StepListener):
    """Passes on to `listener` what is training: not the pass that only measures a step's gradients."""

    def __init__(self, trainer: FusedTrainer, listener: StepListener) -> None:
        self._trainer = trainer
        self._listener = listener

    def forward(self, batch: Any) -> None:
        if not self._trainer.is_measuring:
            self._listener.forward(batch)

    def backward(self) -> None:
        if not self._trainer.is_measuring:
            self._listener.backward()

    def micro_step_end(self) -> None:
        if not self._trainer.is_measuring:
            self._listener.micro_step_end()

    def update(self) -> None:
        self._listener.update()

    def step_end(self, *, was_skipped: bool) -> None:
        self._listener.step_end(was_skipped=was_skipped)

    def guard(self) -> AbstractContextManager[None]:
        return self._listener.guard()


class StepListening(TrainerCallback):
    """Lets `listeners` hear the trainer's steps, from its engine or without one, once all is ready for them."""

    def __init__(self, trainer: PhasedTrainer, *listeners: StepListener) -> None:
        self._trainer = trainer
        self._listeners = listeners

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        for listener in (Unmeasured(self._trainer, one) for one in self._listeners):
            if self._trainer.is_deepspeed_enabled:
                StepWatch(self._trainer.deepspeed, listener)
            else:
                TrainerWatch(self._trainer, listener)
