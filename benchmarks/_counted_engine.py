"""A training on the counted device: DeepSpeed's own engine as one rank of many, from the model to the save.

Imported in the template process and run in a fork of it, one training each.
"""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import deepspeed.ops.adam.cpu_adam as host_adam
import torch
from _counted_device import NAME, become_counted, caller, compile_library
from _counted_ledger import Mark, Truth, truth
from accelerate.utils.deepspeed import map_pytorch_optim_to_deepspeed
from torch import nn
from torch.fx.experimental import _config as fx_config
from transformers import PreTrainedModel, Trainer
from transformers.integrations import HfDeepSpeedConfig

from autofit.domain.errors import UsageError
from autofit.domain.model import ModelFacts
from autofit.domain.outcome import Phase
from autofit.domain.request import Request
from autofit.domain.strategy import Strategy
from autofit.domain.task import Task
from autofit.domain.trace import MicroStep
from autofit.planning.export.deepspeed_config import OFFLOAD_KEYS
from autofit.worker.fused_update.engine_optimizer import EngineOptimizer
from autofit.worker.fused_update.fused_update import FusedUpdate
from autofit.worker.fused_update.partitioned import PartitionedOptimizer
from autofit.worker.model.configuration import load_config
from autofit.worker.model.description import describe
from autofit.worker.model.loading import build_model
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES
from autofit.worker.saving.model_writer import ModelWriter
from autofit.worker.saving.stored_state import stored_state
from autofit.worker.trace.device_kernels import kernels_of
from autofit.worker.trace.fake_model import meta_model, prepare
from autofit.worker.trace.flash_attention import lend_to_own_attention
from autofit.worker.trace.tasks.all_tasks import TRACED_TASKS

Enter = Callable[..., None]
"""Called with a phase, and with True where a micro-step adds to earlier ones."""

OPTIMIZER_STEPS = 2
"""Adam's moments come with the first; ZeRO-3 keeps and prefetches parameters from the second on."""


@dataclass(frozen=True)
class CountedJob:
    """What one rank trains: the model in the folder `model`, `strategy` as `step` traces it, by DeepSpeed's `config`.

    `is_hollow`: large tensors are counted and not computed. `is_explained`: blocks carry the lines that made them.
    """

    model: str
    strategy: Strategy
    step: MicroStep
    config: dict[str, Any]
    rank: int
    rank_count: int
    device_bytes: int
    is_hollow: bool = True
    is_explained: bool = False


def compile_device() -> str | None:
    """Compiles the device where it is not yet; says why it cannot."""
    try:
        compile_library()
    except UsageError as error:
        return str(error)
    return None


def describe_model(request: Request) -> ModelFacts:
    return describe(request)


def measure(job: CountedJob) -> Truth:
    """What the rank held on its device and on its host in each phase; whatever the engine raises is raised."""
    torch.set_num_threads(1)
    gc.freeze()  # what the template has imported need not be looked through at every mark
    library = become_counted(job.device_bytes, rank=job.rank, rank_count=job.rank_count, is_hollow=job.is_hollow)
    if job.is_explained:
        library.set_namer(caller)
    marks: list[Mark] = []
    losses = train(job, NAME, lambda phase, is_adding=False: _mark(library, marks, phase, is_adding))
    _mark(library, marks, None, False)
    return truth(library.changes(), library.names(), marks, losses)


def train(job: CountedJob, device: str, enter: Enter) -> tuple[float, ...]:
    """Trains on `device` and gives the loss of each micro-step; `enter` hears of each phase that begins."""
    fx_config.meta_nonzero_assume_all_nonzero = True  # as traces do: every position counts
    with kernels_of(job.step), _no_host_adam():
        return _Training(job, device, enter).run()


def _mark(library: Any, marks: list[Mark], phase: Phase | None, is_adding: bool) -> None:
    gc.collect()
    marks.append(Mark(library.change_count(), phase, is_adding))


class _Training:
    def __init__(self, job: CountedJob, device: str, enter: Enter) -> None:
        self._job, self._device, self._enter = job, device, enter
        self._is_stage_3 = job.strategy.rung.zero_stage == 3

    def run(self) -> tuple[float, ...]:
        self._enter(Phase.BUILD)
        known = HfDeepSpeedConfig(self._job.config) if self._is_stage_3 else None  # zero.Init reads it while it lives
        model = prepare(self._built(), self._job.step).train()
        self._enter(Phase.INITIALIZE)
        engine = self._engine(model)
        batch = _batch(self._job.step, _vocabulary_size(model), self._device)
        losses = [loss for _ in range(OPTIMIZER_STEPS) for loss in self._optimizer_step(engine, batch)]
        self._evaluate(engine, batch)
        self._enter(Phase.SAVE)
        self._save(engine)
        del known
        return tuple(losses)

    def _built(self) -> PreTrainedModel:
        config, step = load_config(self._job.model, trust_remote_code=False), self._job.step
        if not self._is_stage_3:
            return self._made_real(meta_model(config, step))
        config.use_cache = False
        torch.manual_seed(0)
        with torch.device(self._device):
            model = build_model(config, dtype=TORCH_DTYPES[step.dtype], attention=step.attention)
        lend_to_own_attention(model)
        return model

    def _made_real(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model with every tensor on the device, tied ones as one; the small numbers in them have no meaning."""
        made: dict[int, torch.Tensor] = {}
        torch.manual_seed(0)

        def real(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in made:
                fresh = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
                fresh = fresh.uniform_(-0.05, 0.05) if tensor.is_floating_point() else fresh.zero_()
                is_parameter = isinstance(tensor, nn.Parameter)
                made[id(tensor)] = nn.Parameter(fresh, tensor.requires_grad) if is_parameter else fresh
            return made[id(tensor)]

        for module in model.modules():
            places: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, module.__dict__)
            for tensors in places:
                for name, tensor in tensors.items():
                    if isinstance(tensor, torch.Tensor):
                        tensors[name] = real(tensor)
        return model

    def _engine(self, model: nn.Module) -> Any:
        """The engine with its optimizer, or with what updates in the backward pass, as the product attaches it."""
        if not self._job.strategy.rung.optimizer.is_fused:
            made = deepspeed.initialize(model=model, optimizer=self._optimizer(model), config=self._job.config)
            return made[0]
        engine = deepspeed.initialize(model=model, config=self._job.config)[0]
        rule = FusedUpdate(self._job.strategy.rung.optimizer, clipping_norm=0.0, seed=0).rule()
        EngineOptimizer.attach(engine, PartitionedOptimizer(self._groups(model), rule, lr=1e-4))
        return engine

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer as transformers' Trainer makes it and accelerate hands it on."""
        made = torch.optim.AdamW(self._groups(model), lr=1e-4, fused=True)
        is_moved = OFFLOAD_KEYS[0] in self._job.config["zero_optimization"]
        return map_pytorch_optim_to_deepspeed(made) if is_moved and self._job.is_hollow else made

    def _groups(self, model: nn.Module) -> list[dict[str, Any]]:
        decayed = set(Trainer.get_decay_parameter_names(None, model))
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        return [
            {"params": [parameter for name, parameter in named if (name in decayed) is is_decayed], "weight_decay": 0.0}
            for is_decayed in (True, False)
        ]

    def _optimizer_step(self, engine: Any, batch: dict[str, torch.Tensor]) -> Iterator[float]:
        """The micro-steps of one step, as transformers' Trainer and accelerate's wrapper of the engine take them."""
        accumulation = self._job.strategy.gradient_accumulation
        for index in range(accumulation):
            is_adding, is_last = index > 0, index == accumulation - 1
            self._enter(Phase.FORWARD, is_adding)
            engine.train()
            loss = TRACED_TASKS[Task.SFT].loss(_callable(engine), batch, None) / accumulation
            self._enter(Phase.BACKWARD, is_adding)
            engine.set_gradient_accumulation_boundary(is_boundary=is_last)
            engine.backward(loss, scale_wrt_gas=False)
            if is_last:
                self._enter(Phase.STEP)
                engine.step()
            yield float(loss.detach()) * accumulation
        engine.zero_grad()

    def _evaluate(self, engine: Any, batch: dict[str, torch.Tensor]) -> None:
        self._enter(Phase.EVALUATE)
        engine.eval()
        with torch.no_grad():
            TRACED_TASKS[Task.SFT].loss(_callable(engine), batch, None)

    def _save(self, engine: Any) -> None:
        """The model as the product writes it, then a checkpoint as transformers' Trainer asks DeepSpeed for it; the
        bytes go nowhere."""
        with tempfile.TemporaryDirectory() as folder, _unwritten():
            ModelWriter(stored_state(engine.module), Path(folder, "model")).write(lambda _: None)
            self._enter(Phase.SAVE)
            options = {"exclude_frozen_parameters": True} if self._job.step.lora is not None else {}
            engine.save_checkpoint(str(Path(folder, "checkpoint")), **options)


@contextlib.contextmanager
def _unwritten() -> Iterator[None]:
    """Has torch.save and the streamed save copy to the host what they copy, and write none of it."""

    class Nowhere:
        write_record = staticmethod(lambda *_: None)

    def written_bytes(_: int, data: memoryview, __: int) -> int:
        return len(data)

    pwrite, opened = os.pwrite, torch.serialization._open_zipfile_writer
    os.pwrite, torch.serialization._open_zipfile_writer = written_bytes, lambda _: contextlib.nullcontext(Nowhere())
    try:
        yield
    finally:
        os.pwrite, torch.serialization._open_zipfile_writer = pwrite, opened


def _callable(engine: Any) -> Any:
    """The engine under the name of a model: its own `config` is DeepSpeed's."""

    class Model:
        config = engine.module.config
        __call__ = staticmethod(engine)

    return Model()


def _vocabulary_size(model: nn.Module) -> int:
    return int(model.config.get_text_config().vocab_size)  # type: ignore[union-attr,operator]


def _batch(step: MicroStep, vocabulary_size: int, device: str) -> dict[str, torch.Tensor]:
    shape = (step.micro_batch, step.tokens)
    ids = torch.arange(step.micro_batch * step.tokens).reshape(shape).remainder(vocabulary_size)
    mask = torch.ones(shape, dtype=torch.int64)
    if step.is_padded:
        mask[1:, -1] = 0
    values = {"input_ids": ids, "labels": ids.clone(), "attention_mask": mask}
    return {name: value.to(device) for name, value in values.items()}


class _IdleAdam:
    """DeepSpeed's compiled Adam for the host, which here updates nothing."""

    create_adam = adam_update = destroy_adam = staticmethod(lambda *_: None)

    def load(self) -> _IdleAdam:
        return self


@contextlib.contextmanager
def _no_host_adam() -> Iterator[None]:
    """Has the host's Adam hold its states and leave them alone: they are never touched, nor is it compiled."""
    compiled = host_adam.CPUAdamBuilder
    host_adam.CPUAdamBuilder = _IdleAdam
    try:
        yield
    finally:
        host_adam.CPUAdamBuilder = compiled
