"""The training itself on one rank: from the pretrained model to the one that is saved."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from autofit.domain.event import Tell
from autofit.domain.outcome import Phase
from autofit.domain.request import Request
from autofit.planning.probe_steps import MEMORY_STEPS
from autofit.probing.protocol import Job, RankTrained
from autofit.process.saved_steps import PARTIAL, last_whole, torn
from autofit.worker.data.stop_token import stop_also_at
from autofit.worker.data.training_data import TrainingData, training_data
from autofit.worker.fused_update.fused_update import FusedUpdate
from autofit.worker.rank.bf16_products import prepare_products
from autofit.worker.rank.core_binding import bind_cores
from autofit.worker.rank.lifecycle import Rank
from autofit.worker.rank.measured_steps import PhaseListener
from autofit.worker.rank.process_group import join_group
from autofit.worker.saving.ranks import decided
from autofit.worker.tasks.all_tasks import TASKS
from autofit.worker.training.full_run.divergence_watch import DivergenceWatch
from autofit.worker.training.full_run.energy_log import EnergyLog
from autofit.worker.training.full_run.loading_progress import LoadingProgress
from autofit.worker.training.full_run.neighbours import Neighbours
from autofit.worker.training.full_run.step_agreement import StepAgreement
from autofit.worker.training.full_run.stop_signals import StopSignals
from autofit.worker.training.full_run.stop_wish import StopWish
from autofit.worker.training.full_run.timed_saves import TimedSaves
from autofit.worker.training.full_run.training_log import TrainingLog
from autofit.worker.training.full_run.training_progress import Progress
from autofit.worker.training.full_run.universal_loading import loading_universal, universal_start
from autofit.worker.training.job_model import peft_config, pretrained_model, saved_dtype
from autofit.worker.training.trainer import PhasedTrainer, StepListening
from autofit.worker.training.trainer_arguments import job_arguments


@dataclass(frozen=True)
class Paths:
    """The paths where a full run goes on from and what it leaves."""

    checkpoints: Path
    model: Path
    progress: Path


def run(job: Job, paths: Paths, rank: Rank, neighbours: Neighbours) -> RankTrained:
    """Trains; raises what torch raises, TrainingDiverged where what was trained is no model, and TrainingStopped where
    it has saved and is to end."""
    bind_cores(job)
    prepare_products(job)
    join_group(job)
    rank.enter(Phase.BUILD)
    universal = universal_start(checkpoint(job.request, paths.checkpoints), paths.checkpoints, job.rank_count)
    job = job if universal is None else loading_universal(job)
    arguments = job_arguments(job, output_path=str(paths.checkpoints), overrides={})
    data = training_data(job.request)
    trainer = _trainer(job, arguments, data, LoadingProgress(paths.progress, rank), rank)
    seen = _followed(trainer, job.request, paths, rank, neighbours)
    rank.enter(Phase.INITIALIZE)
    start = decided(lambda: _prepared_start(job.request, paths.checkpoints, trainer.tell))
    ended = trainer.train(resume_from_checkpoint=universal or start)
    eval_loss = _final_evaluation(trainer)
    last_loss = ended.training_loss if seen.log.last_loss is None else seen.log.last_loss
    seen.watch.check_end(last_loss, eval_loss)
    rank.enter(Phase.SAVE)
    trainer.save_trained(str(paths.model))
    torch.distributed.barrier()  # whole for whoever has returned
    return _trained(trainer, rank, seen, eval_loss)


@dataclass(frozen=True)
class _Seen:
    """What is known of a training while it goes on."""

    log: TrainingLog
    energy: EnergyLog
    watch: DivergenceWatch


def _followed(trainer: PhasedTrainer, request: Request, paths: Paths, rank: Rank, neighbours: Neighbours) -> _Seen:
    """Has the trainer call whoever looks at its steps, in this order."""
    device = trainer.args.device
    log, energy = TrainingLog(request.task.traits.told), EnergyLog(rank.energy)
    watch = DivergenceWatch(trainer, request.training.on_divergence)
    listening = StepListening(trainer, PhaseListener(rank), watch)
    is_keeper = rank.index == 0 and trainer.args.save_strategy != SaveStrategy.NO
    saves = TimedSaves(request.training, is_keeper=is_keeper)
    stop = StopWish(StopSignals(neighbours.has_lost_one), device)
    agreement = StepAgreement([saves, stop], device)  # before the watch, which may hold a save back
    for callback in (log, energy, listening, ResumeCallback(trainer), saves, agreement, watch, MemorySteps(rank)):
        trainer.add_callback(callback)
    if rank.index == 0:
        progress = Progress(paths.progress, rank, log, watch)
        trainer.add_callback(progress)
        trainer.tell = progress.tell
    trainer.add_callback(stop)  # the last: it may raise
    return _Seen(log, energy, watch)


def _trained(trainer: PhasedTrainer, rank: Rank, seen: _Seen, eval_loss: float | None) -> RankTrained:
    log, watch = seen.log, seen.watch
    return RankTrained(
        peak_device_bytes=rank.meter.peak_device_bytes(),
        peak_host_bytes=rank.meter.peak_host_bytes(),
        step_count=trainer.state.global_step,
        first_loss=log.first_loss,
        last_loss=log.last_loss,
        tokens_per_s=log.tokens_per_s,
        eval_loss=eval_loss,
        skipped_steps=watch.skipped_steps,
        trouble=None if watch.trouble is None else str(watch.trouble),
        metrics=log.courses,
        energy=seen.energy.energy,
    )


def _trainer(
    job: Job, arguments: TrainingArguments, data: TrainingData, loading: LoadingProgress, rank: Rank
) -> PhasedTrainer:
    model = pretrained_model(job, arguments.device, hear=loading, tell=loading.tell)
    if data.stop_token_id is not None:
        stop_also_at(model.generation_config, data.stop_token_id)
    task = TASKS[job.request.task]
    trainer = task.trainer(
        model=model,
        phase_hook=rank.enter,
        args=arguments,
        train_dataset=data.train,
        eval_dataset=data.evaluation,
        processing_class=data.tokenizer,
        peft_config=peft_config(job, model),
        fused_update=FusedUpdate.of(job),
        **task.beside(job, model, data, hear=loading, tell=loading.tell),
    )
    trainer.saved_dtype = saved_dtype(job)
    if data.stop_token_id is not None:  # beside an adapter, too: merging takes it over
        trainer.save_beside = model.generation_config.save_pretrained
    return trainer


def checkpoint(request: Request, folder: Path) -> str | None:
    """The checkpoint to go on from: the last whole one of this run; before it has one, that which the user named."""
    last = last_whole(folder)
    return request.training.resume if last is None else str(last)


def _prepared_start(request: Request, folder: Path, tell: Tell) -> str | None:
    """The checkpoint to go on from; `tell` hears of those that are passed over, and half of one that an earlier run was
    killed in goes."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    for one in torn(folder):
        tell(str(one))
    return checkpoint(request, folder)


def _final_evaluation(trainer: PhasedTrainer) -> float | None:
    """The loss of the model that is saved, evaluated now unless its last step was; None without evaluation data."""
    if trainer.eval_dataset is None:
        return None
    last = next((entry for entry in reversed(trainer.state.log_history) if "eval_loss" in entry), None)
    if last is not None and last["step"] == trainer.state.global_step and not trainer.args.load_best_model_at_end:
        loss = last["eval_loss"]
        return math.nan if loss is None else float(loss)  # the log has no word for what is not finite
    return float(trainer.evaluate()["eval_loss"])


class MemorySteps(TrainerCallback):
    """Tells a rank when the steps are over that show what memory is needed, as in a probe."""

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self._step_count = 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._rank.step = state.global_step
        self._step_count += 1
        if self._step_count == MEMORY_STEPS:
            self._rank.keep_freed()


class ResumeCallback(TrainerCallback):
    """Puts right what transformers takes from the checkpoint, or does not look at."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        state.compute_steps(args, state.max_steps)  # when to save and to evaluate: the checkpoint's otherwise
        if state.global_step >= state.max_steps:
            # Killed between its last checkpoint and its end: without this one step more is trained.
            control.should_training_stop = True
            self._trainer.get_batch_samples = lambda *_: ([], None)
