"""A plan as one JSON object, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autofit.domain.codec import encode
from autofit.domain.estimate import MemoryEstimate, SpeedEstimate
from autofit.domain.plan import Candidate, Plan, Verdict
from autofit.domain.resort import Resort
from autofit.domain.strategy import Strategy
from autofit.planning.plan.cost import token_j
from autofit.planning.plan.fit import host_high_bytes
from autofit.report.ratios import candidate_rated, efficiency_body

_MEMORY = (
    "parameters_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes", "buffers_bytes", "runtime_bytes",
    "peak_bytes", "low_bytes", "high_bytes", "host_bytes",
)  # fmt: skip
_HOST = ("runtime_bytes", "unpinned_bytes", "pinned_bytes", "peak_bytes", "offloaded_bytes", "mapped_bytes")


def plans_body(plans: Sequence[Plan]) -> dict[str, Any]:
    """The best machine's plan; `plans`, best first, stand under "machines" too when there are several."""
    body = _plan_body(plans[0])
    return body if len(plans) == 1 else {**body, "machines": [_plan_body(plan) for plan in plans]}


def _plan_body(plan: Plan) -> dict[str, Any]:
    return {
        "model": encode(plan.model),
        "hardware": encode(plan.hardware),
        "request": encode(plan.request),
        "sdpa_kernels": encode(plan.sdpa_kernels),
        "verdict": plan.verdict.value,
        "choice": None if plan.choice is None else _candidate_body(plan.choice, plan),
        "plain": None if plan.plain is None else _candidate_body(plan.plain, plan),
        "last_resorts": [_resort_body(resort) for resort in plan.resorts],
        "candidates": [_candidate_body(candidate, plan) for candidate in plan.candidates],
        "baseline": encode(plan.baseline),
    }


def _candidate_body(candidate: Candidate, plan: Plan) -> dict[str, Any]:
    estimate, is_supported = candidate.estimate, candidate.verdict is not Verdict.UNSUPPORTED
    return {
        "strategy": _strategy_body(candidate.strategy),
        "memory": _memory_body(None if estimate is None else estimate.memory),
        "adamw_zero3_peak_bytes": candidate.adamw_peak_bytes,
        "host_memory": _host_body(None if estimate is None else estimate.memory, plan),
        "speed": _speed_body(estimate.speed if estimate is not None and is_supported else None),
        "energy": _energy_body(estimate.speed if estimate is not None and is_supported else None, plan),
        "efficiency": efficiency_body(candidate_rated(candidate), plan.baseline),
        "verdict": candidate.verdict.value,
        "reason": candidate.reason,
    }


def _resort_body(resort: Resort) -> dict[str, Any]:
    return {
        "allow": list(resort.allow),
        "gives_up": resort.gives_up,
        "strategy": _strategy_body(resort.strategy),
        "memory": _memory_body(resort.estimate.memory),
        "speed": _speed_body(resort.estimate.speed),
    }


def _strategy_body(strategy: Strategy) -> dict[str, Any]:
    return {
        **{name: encode(value) for name, value in strategy.rung.by_name.items()},
        "micro_batch": strategy.micro_batch,
        "gradient_accumulation": strategy.gradient_accumulation,
    }


def _memory_body(memory: MemoryEstimate | None) -> dict[str, int | float | None]:
    """What a device is asked for; `optimizer_share` is its share of an optimizer that is offloaded in part."""
    body = {name: None if memory is None else getattr(memory, name) for name in _MEMORY}
    return {**body, "optimizer_share": None if memory is None else memory.kept_share}


def _host_body(memory: MemoryEstimate | None, plan: Plan) -> dict[str, int | None]:
    """What one node's host is asked for, and what it has."""
    body = {name: None if memory is None else getattr(memory.host, name) for name in _HOST}
    high_bytes = None if memory is None else host_high_bytes(memory)
    return {**body, "high_bytes": high_bytes, "available_bytes": plan.hardware.host_available_bytes}


def _energy_body(speed: SpeedEstimate | None, plan: Plan) -> dict[str, Any]:
    """The energy that is expected at most, and what of; null where the speed or the power is unknown."""
    joules = None if speed is None else token_j(speed, plan.hardware)
    return {"token_j": joules, "basis": "all devices at their full power for the time of a token"}


def _speed_body(speed: SpeedEstimate | None) -> dict[str, float | None]:
    """The speed of a candidate; relative speeds are no seconds: null."""
    if speed is None or not speed.is_absolute:
        return {"step_s": None, "tokens_per_s": None}
    return {"step_s": speed.step_s, "tokens_per_s": speed.tokens_per_s}
