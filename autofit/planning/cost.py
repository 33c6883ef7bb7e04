"""Relative time per token of a rung: a factor with its range for each knob. A thin stand-in for a model of speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autofit.domain.estimate import CostEstimate
from autofit.domain.strategy import Attention, Method, Offload, Rung

PLAIN = CostEstimate(1.0, 1.0, 1.0)

ZERO_STAGE = {
    1: PLAIN,
    # The same volume as stage 1 (Rajbhandari 2020, section 7), but reduced after every micro-batch.
    2: CostEstimate(1.02, 0.96, 1.15),
    # 1.5 times that volume: nothing over NVLink, most of the time over PCIe or a slow network.
    3: CostEstimate(1.3, 1.0, 4.0),
}
GRADIENT_CHECKPOINTING = CostEstimate(1.25, 1.1, 1.6)
"""20 to 30 % on 8×A100 and 8×V100; one more forward pass is a third of a full step and half of a LoRA step."""

ATTENTION = {
    Attention.SDPA: PLAIN,
    # torch's kernel is the same algorithm; the package skips padding.
    Attention.FLASH_2: CostEstimate(0.98, 0.8, 1.1),
    # Reads and writes the s×s scores: nothing on short rows, most of the time on long ones.
    Attention.EAGER: CostEstimate(1.4, 1.0, 3.0),
}
METHOD = {
    Method.FULL: PLAIN,
    # The backward pass skips the weights' gradients: two thirds of the work, and hardly anything to communicate.
    Method.LORA: CostEstimate(0.7, 0.5, 1.05),
}
# The slowest thing that one can turn on, by transfers over PCIe and Adam on the host; adapters have few states to move.
OFFLOAD = {
    (Offload.OPTIMIZER, Method.FULL): CostEstimate(1.8, 1.05, 8.0),
    (Offload.ALL, Method.FULL): CostEstimate(3.0, 1.2, 20.0),
    (Offload.OPTIMIZER, Method.LORA): CostEstimate(1.1, 1.0, 2.0),
    (Offload.ALL, Method.LORA): CostEstimate(2.0, 1.1, 20.0),
}

Knob = tuple[str, object]

_FACTORS: dict[Knob, CostEstimate] = {
    **{("method", method): factor for method, factor in METHOD.items()},
    **{("zero_stage", stage): factor for stage, factor in ZERO_STAGE.items()},
    **{("offload", where): factor for where, factor in OFFLOAD.items()},
    **{("attention", kernel): factor for kernel, factor in ATTENTION.items()},
    ("checkpointing", True): GRADIENT_CHECKPOINTING,
}


@dataclass(frozen=True)
class Learned:
    """Measured ratios of time per token between two values of one knob, by (value, reference value)."""

    ratios: Mapping[tuple[Knob, Knob], CostEstimate] = field(default_factory=dict)


def cost(rung: Rung) -> CostEstimate:
    """Time per token relative to all parameters with ZeRO-1 and nothing else turned on."""
    total = PLAIN
    for knob in knobs(rung):
        total = _times(total, _factor(knob))
    return total


def relative(rung: Rung, reference: Rung, learned: Learned) -> CostEstimate:
    """Time per token of `rung` in units of `reference`'s: only the knobs in which they differ widen the range."""
    total = PLAIN
    for knob, other in zip(knobs(rung), knobs(reference), strict=True):
        if knob != other:
            total = _times(total, learned.ratios.get((knob, other)) or _ratio(knob, other))
    return total


def knobs(rung: Rung) -> tuple[Knob, ...]:
    """What makes a rung fast or slow; offload means more when all parameters are trained."""
    offload: object = Offload.NONE if rung.offload is Offload.NONE else (rung.offload, rung.method)
    return (
        ("method", rung.method), ("zero_stage", rung.zero_stage), ("checkpointing", rung.gradient_checkpointing),
        ("offload", offload), ("attention", rung.attention),
    )  # fmt: skip


def narrowed(knob: Knob, reference: Knob, seen: CostEstimate) -> CostEstimate:
    """What was seen, within what was expected; only what was seen where the two contradict each other."""
    expected = _ratio(knob, reference)
    low, high = max(expected.low, seen.low), min(expected.high, seen.high)
    return CostEstimate(seen.expected, low, high) if low < high else seen


def _factor(knob: Knob) -> CostEstimate:
    return _FACTORS.get(knob, PLAIN)


def _ratio(knob: Knob, reference: Knob) -> CostEstimate:
    one, other = _factor(knob), _factor(reference)
    return CostEstimate(one.expected / other.expected, one.low / other.high, one.high / other.low)


def _times(one: CostEstimate, other: CostEstimate) -> CostEstimate:
    return CostEstimate(one.expected * other.expected, one.low * other.low, one.high * other.high)
