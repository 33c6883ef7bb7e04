"""A probe on one rank: the trainer of the full run, random weights, worst-case batches, a few real optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl

from autofit.domain.outcome import Phase
from autofit.planning.data.batch_widths import ProbedStep
from autofit.planning.probe_steps import is_uniform, probed_accumulation, rounds
from autofit.probing.protocol import FailureKind, Job, ProbeSpec, RankMeasured
from autofit.worker.fused_update.fused_update import FusedUpdate
from autofit.worker.model.loading import load_tokenizer
from autofit.worker.rank.bf16_products import prepare_products
from autofit.worker.rank.core_binding import bind_cores
from autofit.worker.rank.failure import KnownFailure
from autofit.worker.rank.lifecycle import Rank
from autofit.worker.rank.measured_steps import NOT_FINITE, Course, Pace, ProbedSteps, rank_measured
from autofit.worker.rank.process_group import join_group
from autofit.worker.tasks.all_tasks import TASKS
from autofit.worker.training.generation_arguments import engine_configuration
from autofit.worker.training.job_model import peft_config, random_model, saved_dtype
from autofit.worker.training.probe_rows import memory_steps, read_by, schedule
from autofit.worker.training.trainer import PhasedTrainer, StepListening
from autofit.worker.training.trainer_arguments import job_arguments


class _Enough(TrainerCallback):
    """Ends a training once its probe has what it wants; KnownFailure where a step was skipped."""

    def __init__(self, steps: ProbedSteps) -> None:
        self._steps = steps

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._steps.meter.begin()  # how the rows of a probe were made says nothing of the training

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        if self._steps.skipped_count:
            raise KnownFailure(FailureKind.NOT_FINITE, NOT_FINITE)
        if self._steps.is_over:
            control.should_training_stop = True


class _ShortSteps:
    """Stands for a trainer's `training_step`: leaves the micro-batches out that its probe does without."""

    def __init__(self, trainer: PhasedTrainer, steps: ProbedSteps) -> None:
        self._training_step, self._device = trainer.training_step, trainer.args.device
        self._accumulation = trainer.args.gradient_accumulation_steps
        self._steps = steps
        self._count = 0
        trainer.training_step = self  # type: ignore[method-assign]

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        place, self._count = self._count % self._accumulation, self._count + 1
        if self._steps.is_left_out(place, self._accumulation):
            return torch.zeros((), device=self._device)
        return self._training_step(*args, **kwargs)


def run(spec: ProbeSpec, rank: Rank, store_path: Path) -> RankMeasured:
    """Builds, initializes, takes steps at full length and measured ones, evaluates where the training does, and saves;
    raises what torch raises.

    The ranks meet in the file at `store_path`: at no port, which another could take first.
    """
    bind_cores(spec.job)
    prepare_products(spec.job)
    join_group(spec.job, store_path)
    rank.enter(Phase.BUILD)
    accumulation = probed_accumulation(spec.job.strategy.gradient_accumulation, spec.job.request.task)
    planned = schedule(spec, accumulation)
    trainer = _trainer(spec, rank, planned, accumulation)
    steps = ProbedSteps(
        rank,
        _course(spec, planned, accumulation),
        micro_batch=spec.job.strategy.micro_batch,
        device=trainer.args.device,
    )
    trainer.add_callback(StepListening(trainer, steps))
    trainer.add_callback(_Enough(steps))
    _ShortSteps(trainer, steps)
    rank.enter(Phase.INITIALIZE)
    trainer.train()
    if not steps.is_outpaced:  # what cannot be chosen need not show more
        _rehearse_end(spec, rank, trainer)
    tokens_per_micro_batch = steps.mean_tokens()
    torch.distributed.barrier()  # a rank that leaves early would break the others' last collective
    return rank_measured(rank.meter, steps, tokens_per_micro_batch)


def _rehearse_end(spec: ProbeSpec, rank: Rank, trainer: PhasedTrainer) -> None:
    if spec.job.request.has_evaluation:
        rank.enter(Phase.EVALUATE)
        trainer.evaluate()
    rank.enter(Phase.SAVE)
    if spec.has_save:
        trainer.save_model(str(Path(spec.scratch_path, "model")))


def _trainer(spec: ProbeSpec, rank: Rank, steps: Sequence[ProbedStep], accumulation: int) -> PhasedTrainer:
    """The trainer of the full run, but for its rows, its weights and how long it goes on."""
    job, task = spec.job, TASKS[spec.job.request.task]
    engine = {"deepspeed": _probed(job, accumulation)}
    overrides = {**_overrides(accumulation, len(steps) * _rounds(spec)), **task.probe_overrides(job.request), **engine}
    arguments = job_arguments(job, output_path=spec.scratch_path, overrides=overrides)
    model = random_model(job)
    vocabulary_size = model.get_input_embeddings().num_embeddings
    shapes = [shape for step in steps for shape in step.shapes]
    if not (getattr(arguments, "packing", False) or job.request.task.traits.generates):  # whose rows ranks share
        shapes = read_by(rank.index, job.rank_count, shapes)
    trainer = task.trainer(
        model=model,
        phase_hook=rank.enter,
        has_fixed_scale=True,  # as `_probed` has it for an engine
        args=arguments,
        train_dataset=task.probe_rows(shapes, job.strategy.micro_batch, vocabulary_size),
        eval_dataset=task.probe_rows([spec.worst[-1]] * job.rank_count, job.strategy.micro_batch, vocabulary_size),
        processing_class=load_tokenizer(job.request.model, trust_remote_code=job.request.trust_remote_code),
        peft_config=peft_config(job, model),
        fused_update=FusedUpdate.of(job),
        **task.beside_probe(spec, model),
    )
    trainer.saved_dtype = saved_dtype(job)
    return trainer


def _course(spec: ProbeSpec, steps: Sequence[ProbedStep], accumulation: int) -> Course:
    all_rounds = [step for _ in range(_rounds(spec)) for step in steps]
    measured = [number for number, step in enumerate(all_rounds, 1) if step.is_measured]
    must_be_whole = len(spec.worst) > 1 or spec.job.request.task.traits.generates  # the first shows worst shapes, too
    return Course(
        memory_steps(spec, accumulation),
        measured,
        spec.measure_s,
        is_uniform=is_uniform(spec.job.kind, has_even_rows=set(spec.typical) == set(spec.worst)),
        pace=Pace.of(spec.least_tokens_per_s, spec.job.strategy),
        shortens=None if must_be_whole else spec.job.strategy.rung,
    )


def _rounds(spec: ProbeSpec) -> int:
    """How often the rows come; a generation's come once, several steps' at a time."""
    return 1 if spec.job.request.task.traits.generates else rounds(spec.measure_s)


def _probed(job: Job, accumulation: int) -> dict[str, Any] | None:
    """The configuration of the engine for a probe; None where there is no engine."""
    config = engine_configuration(job)
    if config is None:
        return None
    config["gradient_accumulation_steps"] = accumulation
    config.pop("train_batch_size", None)
    if config.get("fp16", {}).get("enabled"):
        config["fp16"]["loss_scale"] = 1  # no step is skipped for it, and weights without meaning never end a probe
    return config


def _overrides(accumulation: int, max_steps: int) -> dict[str, Any]:
    return {
        "gradient_accumulation_steps": accumulation,
        "max_steps": max_steps,
        "learning_rate": 1e-5,  # the user's may send weights without meaning to infinity, where steps are skipped
        "lr_scheduler_type": "constant",  # the user's may want more steps than these, or an evaluation
        "lr_scheduler_kwargs": None,
        "warmup_steps": 0,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "eval_strategy": "no",
        "eval_on_start": False,
        "report_to": "none",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "push_to_hub": False,
        "load_best_model_at_end": False,
    }
