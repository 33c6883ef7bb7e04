"""LOMO's rule (Lv et al., Full Parameter Fine-tuning for Large Language Models with Limited Resources, 2306.09782):
plain stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import torch

from autofit.planning.fused_update import CHUNK_ELEMENTS

from .rounding import StochasticRounding
from .rule import ParameterSlice, Step


class Lomo:
    """w ← w - η (s·g + λ w), as torch.optim.SGD: it keeps nothing, and looks at each element by itself."""

    def __init__(self, rounding: StochasticRounding) -> None:
        self._rounding = rounding

    def update(self, part: ParameterSlice, gradient: torch.Tensor, step: Step) -> None:
        pieces = zip(part.weights.split(CHUNK_ELEMENTS), gradient.split(CHUNK_ELEMENTS), strict=True)
        first = part.first
        for weights, piece in pieces:
            values = weights.float()
            if step.weight_decay:
                values.mul_(1.0 - step.learning_rate * step.weight_decay)
            values.add_(piece, alpha=-step.learning_rate * step.scale)
            self._rounding.write(weights, values, step.number, part.number, first)
            first += weights.numel()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """There is nothing to go on from."""
