"""What two measured rungs that differ in one knob teach about that knob."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from autofit.domain.estimate import CostEstimate

from .cost import Knob, Learned, knobs, narrowed
from .reach import speed_at
from .record import Record
from .setting import Setting

TRUST = 0.2
"""How far the ratio between two other rungs may lie from the measured one."""


def learn(measured: Sequence[Record], setting: Setting) -> Learned:
    """Ratios by (value, reference value); the latest pair in the ladder's order speaks for a knob."""
    ratios: dict[tuple[Knob, Knob], CostEstimate] = {}
    for one, other in permutations(measured, 2):
        differing = [pair for pair in zip(knobs(one.rung), knobs(other.rung), strict=True) if pair[0] != pair[1]]
        seen = _seen(one, other, setting)
        if len(differing) == 1 and seen is not None:
            ratios[differing[0]] = narrowed(*differing[0], seen)
    return Learned(ratios)


def _seen(one: Record, other: Record, setting: Setting) -> CostEstimate | None:
    """Time per token of `one` in units of `other`'s, at a micro-batch that both know and at the top of their curves."""
    shared = one.points.keys() & other.points.keys()
    if not shared:
        return None
    rows = max(shared)
    ratio = other.points[rows].tokens_per_s / one.points[rows].tokens_per_s
    most = one.candidates[-1]
    top = speed_at(other, most, setting) / speed_at(one, most, setting)
    return CostEstimate(ratio, min(ratio, top) * (1 - TRUST), max(ratio, top) * (1 + TRUST))
