"""Checkpointing that is turned off for a generation and on again behind it, as it was."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel


class CheckpointingSwitch:
    """Takes the place of a model's own two methods, from when its trainer has turned checkpointing on.

    transformers' own hangs one more hook on the embeddings each time that it is turned on
    (`enable_input_require_grads`, 5.23): in the end thousands, which each generated token would run through.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model
        self._turn_on = model.gradient_checkpointing_enable
        self._off: list[nn.Module] = []  # the modules whose checkpointing waits for the end of a generation
        self._model.gradient_checkpointing_enable = self.turn_on
        self._model.gradient_checkpointing_disable = self.turn_off

    def turn_off(self) -> None:
        """Has no layer checkpointed until the next `turn_on`."""
        self._off = [module for module in self._model.modules() if getattr(module, "gradient_checkpointing", False)]
        for module in self._off:
            module.gradient_checkpointing = False  # type: ignore[assignment]

    def turn_on(self, *args: Any, **kwargs: Any) -> None:
        """Has the layers checkpointed that were; the first time those that the arguments name, as transformers does."""
        if not self._off:
            self._turn_on(*args, **kwargs)
        for module in self._off:
            module.gradient_checkpointing = True  # type: ignore[assignment]
        self._off = []
