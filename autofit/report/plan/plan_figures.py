"""Figures of a plan as people read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autofit.domain.hardware import Hardware
from autofit.domain.plan import Candidate, Plan
from autofit.domain.units import format_bytes, format_count, rough_bytes, rough_speed
from autofit.planning.plan.cost import Cost, cost
from autofit.planning.plan.fit import is_host_asked


@dataclass(frozen=True)
class Terms:
    """What hours and money are reckoned from: tokens of the whole training, and what a device-hour of a machine costs,
    None where nobody said."""

    tokens: float | None = None
    price_per_device_hour: Callable[[Hardware], float | None] = lambda _: None
    is_cheapest_first: bool = False

    def cost(self, plan: Plan, candidate: Candidate | None) -> Cost | None:
        if candidate is None or candidate.estimate is None:
            return None
        price = self.price_per_device_hour(plan.hardware)
        return cost(self.tokens, candidate.estimate.speed, plan.hardware, price)


REHEARSED = "*"
"""Stands before a figure that was measured, where `~` stands before one that was estimated."""


def memory_text(one: Candidate) -> str:
    """The memory of a candidate: `~53 GB`, or `*52.7 GB` after a rehearsal."""
    assert one.estimate is not None
    peak_bytes = one.estimate.memory.peak_bytes
    return f"~{rough_bytes(peak_bytes)}" if one.rehearsed is None else f"{REHEARSED}{format_bytes(peak_bytes)}"


def host_text(one: Candidate) -> str:
    """The memory of one node's host that a candidate takes, as estimated: `~208 GB`."""
    assert one.estimate is not None
    return f"~{rough_bytes(one.estimate.memory.host_bytes)}"


def shows_host(plan: Plan, one: Candidate) -> bool:
    """Whether the host's memory has a say in what is said of a candidate."""
    return one.estimate is not None and is_host_asked(one.estimate.memory, plan.hardware)


def speed_text(plan: Plan, one: Candidate) -> str:
    """The speed of a candidate: `~9,100`, `*9,123` after a rehearsal whose time counts, or `0.93×` of the pick where
    only ratios are known."""
    assert one.estimate is not None
    estimate = one.estimate
    if one.rehearsed is not None and one.rehearsed.communication_s is not None:
        return f"{REHEARSED}{estimate.speed.tokens_per_s:,.0f}"
    if estimate.speed.is_absolute:
        return f"~{rough_speed(estimate.speed.tokens_per_s)}"
    best = plan.choice or plan.candidates[0]
    assert best.estimate is not None
    return f"{estimate.speed.tokens_per_s / best.estimate.speed.tokens_per_s:.2f}×"


def speed_phrase(plan: Plan, one: Candidate) -> str:
    """The speed with its unit, for a sentence."""
    assert one.estimate is not None
    text = speed_text(plan, one)
    return f"{text} tokens/s" if one.estimate.speed.is_absolute else f"{text} the pick's speed"


def hours_text(hours: float) -> str:
    """A number of hours as people read it: `9.0 h`, `240 h`, `8 min`."""
    if hours < 1:
        return f"{max(hours * 60, 1):.0f} min"
    return f"{hours:.1f} h" if hours < 99.95 else f"{hours:,.0f} h"


def cost_text(due: Cost) -> str:
    """What a training takes: `1.0 B tokens: ~9.0 h · up to 29 kWh at the devices' full power · price ~180`."""
    parts = [f"{format_count(due.tokens)} tokens: ~{hours_text(due.hours)}"]
    parts += [] if due.energy_kwh is None else [f"up to {amount_text(due.energy_kwh)} kWh at the devices' full power"]
    parts += [] if due.price is None else [f"price ~{amount_text(due.price)}"]
    return " · ".join(parts)


def amount_text(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"
