"""Made-up memory of lean optimizers and quantised weights: what searches are played with, whatever the formulas say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.estimate import Estimate
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.strategy import Strategy
from autofit.planning.plan import fit
from autofit.planning.setting import Setting
from autofit.planning.space import ladder_builder

STATES = {
    Optimizer.ADAMW_8BIT: 0.5, Optimizer.ADAMW_8BIT_BF16: 0.33, Optimizer.ADAMW_4BIT_BF16: 0.25,
    Optimizer.ADALOMO: 0.01, Optimizer.LOMO: 0.0,
}  # fmt: skip
"""The share of AdamW's states that is left."""

WEIGHTS = {Quantization.INT8: 0.5, Quantization.NF4: 0.3}
"""The share of bf16 weights that is left."""

SLOWER = {Optimizer.ADALOMO: 1.2, Quantization.NF4: 1.4, Quantization.INT8: 1.3}
"""How many times as long a step computes."""

ORDINARY = ladder_builder.estimate_of


def lean_estimate(strategy: Strategy, setting: Setting) -> Estimate:
    """The estimate of the plain rung, with smaller states and weights; LOMO and AdaLomo keep no gradients."""
    rung = strategy.rung
    plain = replace(rung, optimizer=Optimizer.ADAMW, quantization=Quantization.NONE)
    made = ORDINARY(replace(strategy, rung=plain), setting)
    states, weights = STATES.get(rung.optimizer, 1.0), WEIGHTS.get(rung.quantization, 1.0)
    is_fused = rung.optimizer in (Optimizer.LOMO, Optimizer.ADALOMO)
    memory = made.memory
    smaller = replace(
        memory,
        optimizer_bytes=round(states * memory.optimizer_bytes),
        parameters_bytes=round(weights * memory.parameters_bytes),
        gradients_bytes=0 if is_fused else memory.gradients_bytes,
    )
    saved_bytes = memory.peak_bytes - smaller.peak_bytes
    smaller = replace(smaller, low_bytes=memory.low_bytes - saved_bytes, high_bytes=memory.high_bytes - saved_bytes)
    times = SLOWER.get(rung.optimizer, 1.0) * SLOWER.get(rung.quantization, 1.0)
    return Estimate(smaller, replace(made.speed, compute_s=times * made.speed.compute_s))


@pytest.fixture
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every ladder and plan have these, and looks at all of them: what is left out unseen goes by the formulas."""
    monkeypatch.setattr(ladder_builder, "estimate_of", lean_estimate)
    monkeypatch.setattr(fit, "may_leave_room", lambda *_: True)
