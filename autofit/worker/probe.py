"""A probe on one rank: the trainer of the full run, random weights, worst-case batches, a few real optimizer steps."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl

from autofit.domain.outcome import Phase
from autofit.domain.workload import BatchShape
from autofit.planning.batch import PROBED_ACCUMULATION
from autofit.planning.workload import PAD_TO_MULTIPLE, ProbedStep, warmed
from autofit.probing.protocol import ProbeSpec, RankMeasured
from autofit.worker.arguments import sft_config
from autofit.worker.measuring import MAX_MEASURED_STEPS, MEMORY_STEPS, check_steps, rank_measured, steps_in
from autofit.worker.model import load_tokenizer, peft_config, random_model
from autofit.worker.rank import Rank, join_group
from autofit.worker.step_meter import StepMeter
from autofit.worker.trainer import EngineWatch, PhasedTrainer

_UNREAD = BatchShape(1, 1.0)


class _Pace(TrainerCallback):
    """Decides after the worst-case steps how many of `measured`, steps by their numbers, are: as many on every rank."""

    def __init__(self, rank: Rank, memory_steps: int, measured: list[int], measure_s: float) -> None:
        self._rank = rank
        self._memory_steps = memory_steps
        self._measured = measured
        self._measure_s = measure_s
        self._last_step = measured[-1]
        self._began_at_s = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began_at_s = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        self._rank.step = state.global_step
        if state.global_step == self._memory_steps:
            step_s = time.perf_counter() - self._began_at_s
            self._last_step = self._measured[: steps_in(self._measure_s, step_s, args.device)][-1]
        if state.global_step >= self._last_step:
            control.should_training_stop = True


def run(spec: ProbeSpec, rank: Rank, store_path: Path) -> RankMeasured:
    """Build, initialize, steps at full length, measured steps, evaluation, save; raises what torch raises.

    The ranks meet in the file at `store_path`: at no port, which another could take first.
    """
    job = spec.job
    join_group(job, store_path)
    rank.enter(Phase.BUILD)
    strategy = job.strategy
    accumulation = min(PROBED_ACCUMULATION, strategy.gradient_accumulation)
    scratch = Path(spec.scratch_path)
    steps = schedule(spec, accumulation)
    measured = [number for number, step in enumerate(steps, 1) if step.is_measured]
    overrides = _overrides(job.deepspeed_config, accumulation, len(steps))
    arguments = sft_config(job, output_path=str(scratch), overrides=overrides)
    tokenizer = load_tokenizer(job.request.model)
    model = random_model(job)
    vocabulary_size = model.get_input_embeddings().num_embeddings
    meter = StepMeter(measured=frozenset(measured))
    arguments.dataset_kwargs = None if arguments.packing else {"skip_prepare_dataset": True}
    shapes = [shape for step in steps for shape in step.shapes]
    if not arguments.packing:  # which would join short rows
        shapes = _read_by(rank.index, job.rank_count, shapes)
    trainer = PhasedTrainer(
        model=model,
        args=arguments,
        train_dataset=_dataset(shapes, strategy.micro_batch, vocabulary_size),
        eval_dataset=_dataset([spec.worst[-1]] * job.rank_count, strategy.micro_batch, vocabulary_size),
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=[_Pace(rank, memory_steps(spec, accumulation), measured, spec.measure_s), meter],
    )
    trainer.phase_hook = rank.enter
    trainer.add_callback(EngineWatch(trainer))
    rank.enter(Phase.INITIALIZE)
    trainer.train()
    check_steps(trainer.deepspeed)
    rank.enter(Phase.EVALUATE)
    trainer.evaluate()
    rank.enter(Phase.SAVE)
    if spec.has_save:
        trainer.save_model(str(scratch / "model"))
    torch.distributed.barrier()  # a rank that leaves early would break the others' last collective
    return rank_measured(rank.meter, meter, meter.tokens_per_step / (job.rank_count * accumulation))


def memory_steps(spec: ProbeSpec, accumulation: int) -> int:
    """Optimizer steps before the measured ones: each worst shape once, the last of them for a whole step at the end."""
    return max(MEMORY_STEPS, math.ceil((len(spec.worst) - 1) / accumulation) + 1)


def _overrides(deepspeed_config: str, accumulation: int, max_steps: int) -> dict[str, Any]:
    config = json.loads(deepspeed_config)
    config["gradient_accumulation_steps"] = accumulation
    config.pop("train_batch_size", None)
    if config.get("fp16", {}).get("enabled"):
        config["fp16"]["loss_scale"] = 1  # no step is skipped for it, and weights without meaning never end a probe
    return {
        "deepspeed": config,
        "gradient_accumulation_steps": accumulation,
        "max_steps": max_steps,
        "learning_rate": 1e-5,  # the user's may send weights without meaning to infinity, where steps are skipped
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "push_to_hub": False,
        "load_best_model_at_end": False,
    }


def schedule(spec: ProbeSpec, accumulation: int) -> tuple[ProbedStep, ...]:
    """The worst shapes, then the typical ones, which are measured, each once its ranks have met its widths."""
    ranks = spec.job.rank_count
    last = len(spec.worst) - 1
    memory = [
        tuple(spec.worst[min(step * accumulation + place, last)] for place in range(accumulation) for _ in range(ranks))
        for step in range(memory_steps(spec, accumulation))
    ]
    typical = itertools.cycle(spec.typical)
    steps = (tuple(itertools.islice(typical, accumulation * ranks)) for _ in range(MAX_MEASURED_STEPS))
    return (
        *(ProbedStep(shapes, is_measured=False) for shapes in memory),
        *warmed(steps, ranks, seen=spec.worst, multiple=PAD_TO_MULTIPLE[spec.job.kind]),
    )


def _read_by(rank_index: int, rank_count: int, shapes: list[BatchShape]) -> list[BatchShape]:
    """With next to nothing in the places of the other ranks' batches: thousands of long rows take seconds to make."""
    return [shape if place % rank_count == rank_index else _UNREAD for place, shape in enumerate(shapes)]


def _dataset(shapes: list[BatchShape], micro_batch: int, vocabulary_size: int) -> Dataset:
    lengths = [length for shape in shapes for length in row_lengths(shape, micro_batch)]
    longest = [token % vocabulary_size for token in range(max(lengths))]
    ids = [longest[:length] for length in lengths]
    return Dataset.from_dict({"input_ids": ids, "labels": ids})


def row_lengths(shape: BatchShape, micro_batch: int) -> list[int]:
    """One row as wide as the batch is padded, the others as long as the mean demands (tokens)."""
    if micro_batch == 1:
        return [shape.padded_tokens]
    rest = (shape.mean_tokens * micro_batch - shape.padded_tokens) / (micro_batch - 1)
    return [shape.padded_tokens] + [min(shape.padded_tokens, max(1, round(rest)))] * (micro_batch - 1)
