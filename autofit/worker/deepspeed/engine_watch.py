"""An engine followed through its micro-batches, whoever calls it: a plain loop, accelerate, transformers or trl."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch


class StepListener:
    """Hears what an engine does; a listener overrides what it wants to know."""

    def forward(self, batch: Any) -> None:
        """Hears of a forward pass, before it begins, that a backward pass can follow; `batch` is its arguments,
        positional and by name."""

    def backward(self) -> None:
        """Hears of a backward pass before it begins."""

    def update(self) -> None:
        """Hears of an optimizer step before it begins."""

    def micro_step_end(self) -> None:
        """Hears that a micro-batch has ended which is not the last of its optimizer step."""

    def step_end(self, *, was_skipped: bool) -> None:
        """Hears that the last micro-batch has ended; `was_skipped` where gradients were not finite and the weights are
        as they were."""

    def guard(self) -> AbstractContextManager[None]:
        """Stands around whatever the engine does."""
        return contextlib.nullcontext()


class StepWatch:
    """Takes the place of an engine's `forward`, `backward` and `step`.

    accelerate calls `step` at the end of an accumulation only, a plain loop after each backward pass, and who calls
    `loss.backward()` does not call the engine's `backward`: so a micro-batch ends with the first that tells its end.
    """

    def __init__(self, engine: Any, listener: StepListener) -> None:
        self._engine = engine
        self._listener = listener
        self._is_open = False  # a micro-batch has begun
        self._trains_in_eval = False  # the script has left its model in eval mode, and trains it all the same
        self._forward, self._backward, self._step = engine.forward, engine.backward, engine.step
        engine.forward, engine.backward, engine.step = self.forward, self.backward, self.step

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        is_training = self._engine.module.training or self._trains_in_eval
        if is_training and torch.is_grad_enabled():  # trl looks at some batches without gradients, too
            self._is_open = True
            self._listener.forward((inputs, kwargs))
        with self._listener.guard():
            return self._forward(*inputs, **kwargs)

    def backward(self, *args: Any, **kwargs: Any) -> Any:
        is_last = self._is_boundary()
        self._is_open = True  # also where the forward pass went past the engine
        self._trains_in_eval = not self._engine.module.training
        self._listener.backward()
        with self._listener.guard():
            result = self._backward(*args, **kwargs)
        if not is_last:
            self._end_micro_step()
        return result

    def step(self, *args: Any, **kwargs: Any) -> Any:
        is_update = self._is_boundary()
        before = _skips(self._engine)
        if is_update:
            self._listener.update()
        with self._listener.guard():
            result = self._step(*args, **kwargs)
        if not is_update:
            self._end_micro_step()
            return result
        self._is_open = False
        self._listener.step_end(was_skipped=_skips(self._engine) > before)
        return result

    def _is_boundary(self) -> bool:
        """Whether an update comes next; where the script manages the accumulation itself, each `step` is one."""
        is_managed = getattr(self._engine, "managed_gradient_accumulation", lambda: True)()
        return not is_managed or self._engine.is_gradient_accumulation_boundary()

    def _end_micro_step(self) -> None:
        if self._is_open:
            self._is_open = False
            self._listener.micro_step_end()


def _skips(engine: Any) -> tuple[int, float]:
    """What grows with each step that is skipped.

    DeepSpeed counts those of its own optimizers, of every stage and dtype. Without ZeRO, under its `torch_autocast`,
    the optimizer is torch's, whose gradient scaler skips on its own and then halves its scale. In fp32 without ZeRO
    nothing is skipped (DeepSpeed 0.19.8, `DeepSpeedEngine._take_model_step`).
    """
    scaler = getattr(engine, "torch_autocast_z0_gradscaler", None)
    return engine.skipped_steps, 0.0 if scaler is None else -scaler.get_scale()
