"""The learning rates that a script's engine has as it goes."""

from __future__ import annotations

from collections.abc import Sequence

_MANY_STEPS = 4


class LearningRateWatch:
    """Hears the rates at each micro-batch; `of_steps` are those of the first optimizer steps."""

    def __init__(self) -> None:
        self.of_steps: list[float] = []
        self.moves_with_batches = False
        self._before: list[float] | None = None  # None after an optimizer step

    def micro_batch(self, rates: Sequence[float]) -> None:
        """Hears of a micro-batch before its forward pass."""
        if self._before is not None and self._before != list(rates):
            self.moves_with_batches = True
        self._before = list(rates)

    def update(self, rates: Sequence[float]) -> None:
        """Hears of an optimizer step before it begins."""
        self._before = None
        if rates and len(self.of_steps) < _MANY_STEPS:
            self.of_steps.append(float(rates[0]))
