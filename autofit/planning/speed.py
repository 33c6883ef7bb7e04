"""Predicted duration of an optimizer step."""

from __future__ import annotations

from autofit.domain.estimate import SpeedEstimate
from autofit.domain.strategy import Strategy

from .cost import cost
from .setting import Setting


def estimate_speed(strategy: Strategy, setting: Setting) -> SpeedEstimate:
    tokens = setting.request.global_batch * (setting.mean_tokens or setting.worst_tokens)
    return SpeedEstimate(tokens, cost(strategy.rung).expected * tokens, 0.0, 0.0, 0.0, is_absolute=False)
