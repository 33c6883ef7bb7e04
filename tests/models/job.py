"""A family's training at its smallest: one rank on a CPU, rows of a moment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PretrainedConfig

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import ATTENTION, Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.request import Lora
from autofit.domain.strategy import Strategy
from autofit.domain.workload import BatchShape
from autofit.planning.export.deepspeed_config import engine_config
from autofit.probing.protocol import Job
from autofit.worker.fused_update.fused_update import FusedUpdate
from autofit.worker.model.configuration import load_config
from autofit.worker.model.loading import build_model, load_tokenizer
from autofit.worker.model.support import lacking
from autofit.worker.tasks.all_tasks import TASKS
from autofit.worker.training.job_model import peft_config, random_model
from autofit.worker.training.trainer import PhasedTrainer
from autofit.worker.training.trainer_arguments import job_arguments
from tests.builders import make_request, make_rung, make_shape
from tests.models.families import HIDDEN, VOCABULARY


@dataclass(frozen=True)
class Usable:
    kernels: tuple[Attention, ...]
    has_checkpointing: bool

    @property
    def attention(self) -> Attention:
        """torch's own kernel, where it can be had."""
        return Attention.SDPA if Attention.SDPA in self.kernels else Attention.EAGER


TOKENS, ROWS = 32, 2
LORA = Lora(r=8)
SHAPE = make_shape("tiny", 2, 2 * HIDDEN, 10**6)  # sizes DeepSpeed's buckets and nothing else


def usable_knobs(config: PretrainedConfig) -> Usable:
    """What the model's class, and each part of it, can be built with."""
    with torch.device("meta"):
        model = build_model(config, dtype=torch.bfloat16, attention=Attention.EAGER)
    lacks = {(one.knob, one.word) for one in lacking(model)}
    kernels = tuple(kernel for kernel in Attention if (ATTENTION.name, ATTENTION.of(kernel).word) not in lacks)
    has_checkpointing = (
        GRADIENT_CHECKPOINTING.name,
        GRADIENT_CHECKPOINTING.of(GradientCheckpointing.ON).word,
    ) not in lacks
    return Usable(kernels, has_checkpointing)


def job_of(
    model: Path,
    *,
    method: Method = Method.FULL,
    zero_stage: int = 3,
    dtype: Dtype = Dtype.BF16,
    optimizer: Optimizer = Optimizer.ADAMW,
    quantization: Quantization = Quantization.NONE,
) -> Job:
    request = make_request(model, TOKENS, global_batch=ROWS, lora=LORA, ranks=1)
    usable = usable_knobs(load_config(str(model), trust_remote_code=False))
    rung = make_rung(
        zero_stage,
        method=method,
        attention=usable.attention,
        dtype=dtype,
        optimizer=optimizer,
        quantization=quantization,
    )
    strategy = Strategy(rung, ROWS, 1)
    config = engine_config(strategy, request, SHAPE, DeviceKind.CPU)
    return Job(request, strategy, None if config is None else json.dumps(config), DeviceKind.CPU, 1)


def trainer_of(
    job: Job, folder: Path, *, accumulation: int = 1, max_steps: int = 1, **overrides: object
) -> PhasedTrainer:
    """In this process: without DeepSpeed, at a learning rate that moves every weight."""
    alone = {"deepspeed": None, "learning_rate": 1e-2, "save_strategy": "no", "report_to": "none"}
    steps = {"gradient_accumulation_steps": accumulation, "max_steps": max_steps}
    arguments = job_arguments(job, output_path=str(folder), overrides={**alone, **steps, **overrides})
    arguments.dataset_kwargs = {"skip_prepare_dataset": True}
    torch.manual_seed(0)
    model = random_model(job)
    task = TASKS[job.request.task]
    return task.trainer(
        model=model,
        args=arguments,
        train_dataset=task.probe_rows([BatchShape(TOKENS, TOKENS - 0.5)] * accumulation, ROWS, VOCABULARY),
        processing_class=load_tokenizer(job.request.model, trust_remote_code=False),
        peft_config=peft_config(job, model),
        fused_update=FusedUpdate.of(job),
    )
