"""A trainer without an engine followed through its micro-batches: the same events as of an engine of DeepSpeed's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from transformers import Trainer

from autofit.worker.deepspeed.engine_watch import StepListener


class TrainerWatch:
    """Hears the model's forward pass by torch's hook, and takes the place of accelerate's `backward` and of the
    `step` of its optimizer, which transformers' trainer calls at the end of an accumulation only.

    For a trainer that has made its model and its optimizer ready, as it has when its training begins.
    """

    def __init__(self, trainer: Trainer, listener: StepListener) -> None:
        self._listener = listener
        self._accelerator = trainer.accelerator
        self._scale = self._loss_scale()
        trainer.model_wrapped.register_forward_pre_hook(self._hear_forward, with_kwargs=True)
        trainer.accelerator.backward = self._heard_backward(trainer.accelerator.backward)
        trainer.optimizer.step = self._heard_step(trainer.optimizer.step)

    def _hear_forward(self, model: torch.nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if model.training and torch.is_grad_enabled():  # trl looks at some batches without gradients, too
            self._listener.forward((inputs, kwargs))

    def _heard_backward(self, backward: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(backward)
        def heard(*args: Any, **kwargs: Any) -> None:
            self._listener.backward()
            backward(*args, **kwargs)
            if not self._accelerator.sync_gradients:
                self._listener.micro_step_end()

        return heard

    def _heard_step(self, step: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(step)  # a schedule has marked the step, and looks for its mark
        def heard(*args: Any, **kwargs: Any) -> None:
            self._listener.update()
            step(*args, **kwargs)
            scale_before, self._scale = self._scale, self._loss_scale()
            self._listener.step_end(was_skipped=self._scale < scale_before)

        return heard

    def _loss_scale(self) -> float:
        """The scale of the loss in fp16: torch's scaler lowers it where it has skipped a step, and tells of that in no
        other way that holds for a fused optimizer."""
        scaler = self._accelerator.scaler
        return 1.0 if scaler is None else float(scaler.get_scale())
