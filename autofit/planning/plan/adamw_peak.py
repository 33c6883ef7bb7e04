"""What LOMO and AdaLomo are compared with: the memory of AdamW with ZeRO-3."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Strategy
from autofit.planning.memory.bucket_size import with_bucket
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.setting import Setting


def adamw_peak_bytes(strategy: Strategy, setting: Setting) -> int | None:
    """The expected peak on one rank of AdamW with ZeRO-3 on the same rows, all else the same; None beside what updates
    after the backward pass."""
    if not strategy.rung.optimizer.is_fused:
        return None
    usual = replace(strategy, rung=replace(strategy.rung, optimizer=Optimizer.ADAMW, zero_stage=3))
    return estimate_memory(usual, with_bucket(usual, setting)).peak_bytes
