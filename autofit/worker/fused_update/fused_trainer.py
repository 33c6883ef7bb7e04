"""A trainer whose optimizer may update in the backward pass: on ZeRO-3's partitions, or on whole parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedOptimizerWrapper

from autofit.worker.training.data_parallel import DataParallelTrainer

from .agreement import ModuleUse
from .engine_optimizer import EngineOptimizer
from .fused_optimizer import FusedOptimizer
from .fused_update import FusedUpdate
from .partitioned import PartitionedOptimizer
from .replicated import ReplicatedOptimizer


class FusedTrainer(DataParallelTrainer):
    """`fused_update` says how it updates; None: as its arguments do, after the backward pass.

    Without an engine its model is wrapped in nothing: neither in DDP, whose buckets are gradients that are kept, nor in
    autocast, whose weights are fp32.
    """

    def __init__(self, *, args: Any, fused_update: FusedUpdate | None = None, **kwargs: Any) -> None:
        self._update = fused_update
        super().__init__(args=args, **kwargs)
        if fused_update is not None:  # not every trainer of trl's takes it as an argument
            kind = ReplicatedOptimizer if args.deepspeed is None else PartitionedOptimizer
            options = {"rule": fused_update.rule(), "lr": args.learning_rate}
            self.optimizer_cls_and_kwargs = (kind, options)

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self._update is None:
            return
        accelerator = self.accelerator
        if self.is_deepspeed_enabled:
            accelerator._prepare_deepspeed = partial(_prepare, accelerator, accelerator._prepare_deepspeed)
        else:
            accelerator.prepare_model = partial(accelerator.prepare_model, evaluation_mode=True)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)
        fused = self._fused
        if fused is not None:
            self._use = ModuleUse(self.model, fused.parameters)
        if isinstance(fused, ReplicatedOptimizer):
            fused.share_weights()
        return prepared

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, *args, **kwargs)
        fused = self._fused
        if fused is not None and self.model.training:
            fused.agreement = self._use.agree(fused.kept_numbers, self.args.device)
        return loss

    @property
    def _fused(self) -> FusedOptimizer | None:
        """The optimizer that updates in the backward pass, once it is made."""
        if self._update is None or self.optimizer is None:
            return None
        fused = self.optimizer.optimizer
        return fused.updates if isinstance(fused, EngineOptimizer) else fused

    @property
    def is_measuring(self) -> bool:
        """Whether the pass that goes on only measures the gradients of a step, which another will take."""
        fused = self._fused
        return fused is not None and fused.is_measuring

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        fused, is_boundary = self._fused, self.accelerator.sync_gradients
        if self._update is None or fused is None:
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            return loss
        if self._update.clipping_norm and is_boundary:
            self._measure(fused, model, inputs, num_items_in_batch)
        return self._micro_step(fused, is_boundary, model, inputs, num_items_in_batch)

    def _measure(self, fused: FusedOptimizer, *args: Any) -> None:
        """Runs the same micro-batch before its turn, with the same dropout, for the norm of the gradients."""
        assert self._update is not None
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        counted_tokens = self._total_train_tokens  # type: ignore[has-type]  # trl's, which has no types
        with torch.random.fork_rng(devices), fused.measuring(self._update.clipping_norm):
            self._micro_step(fused, False, *args)  # DeepSpeed's engine steps at a boundary
        self._total_train_tokens = counted_tokens

    def _micro_step(self, fused: FusedOptimizer, is_boundary: bool, *args: Any) -> torch.Tensor:
        self.accelerator.gradient_state._set_sync_gradients(is_boundary)
        fused.is_boundary = is_boundary
        loss: torch.Tensor = super().training_step(*args)
        if not self.is_deepspeed_enabled:  # whose engine tells it
            fused.end_backward()
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        fused = self._fused
        if isinstance(fused, ReplicatedOptimizer):
            grad_norm = fused.gradient_norm
        return super()._get_grad_norm(model, grad_norm=grad_norm)


def _prepare(accelerator: Accelerator, prepare: Callable[..., tuple[Any, ...]], *args: Any) -> tuple[Any, ...]:
    """Stands for accelerate's `_prepare_deepspeed`: makes the engine without the optimizer, and puts it there then."""
    fused = next((one for one in args if isinstance(one, PartitionedOptimizer)), None)
    if fused is None:
        return prepare(*args)
    made = iter(prepare(*(one for one in args if one is not fused)))
    engine = accelerator.deepspeed_engine_wrapped.engine
    wrapped = DeepSpeedOptimizerWrapper(EngineOptimizer.attach(engine, fused))
    accelerator._optimizers.append(wrapped)
    return tuple(wrapped if one is fused else next(made) for one in args)
