"""A plan once some of its candidates were rehearsed: what was measured takes the place of what was estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from autofit.domain.efficiency import Rated
from autofit.domain.estimate import Estimate, MemoryEstimate, SpeedEstimate
from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Measured, Outcome, OutOfMemory, Place
from autofit.domain.plan import Candidate, Plan, Rehearsal, Rehearsed, Shortfall, Verdict
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.domain.units import format_bytes
from autofit.planning.plain_torch import communicator_bytes
from autofit.planning.setting import Setting

from .baseline import predicted_cost
from .candidates import PlanOrder, plan_order
from .fit import SURE_SHARE, Ruling, leaves_room, too_large
from .rehearsal import as_probe
from .rehearsal_site import RehearsalSite

MOST_REHEARSED = 4

_ABSORBING = (
    "activations_bytes", "runtime_bytes", "buffers_bytes", "gradients_bytes", "optimizer_bytes", "parameters_bytes",
)  # fmt: skip
"""Parts of a breakdown, those that are known least first."""


def rivals(plan: Plan) -> tuple[Candidate, ...]:
    """What is worth a rehearsal: the best of each method that may fit, then the next best, the plan's choice first."""
    possible = plan.possible
    methods = [one.strategy.rung.method for one in possible]
    firsts = {methods.index(method) for method in Method if method in methods}
    wanted = sorted(range(len(possible)), key=lambda number: (number not in firsts, number))[:MOST_REHEARSED]
    return tuple(possible[number] for number in sorted(wanted))


def replan(plan: Plan, outcomes: Mapping[Strategy, Outcome], site: RehearsalSite, notes: tuple[str, ...] = ()) -> Plan:
    """The plan with what was rehearsed, and with the choice made again: the fastest measured one that fits.

    Where times do not carry over, the fastest by the estimates among those that are expected to fit. What was not
    rehearsed is corrected by how far the estimates of the others erred in time (their median).
    """
    judged = [_judged(one, outcomes.get(one.strategy), site) for one in plan.candidates]
    error = _time_error(plan.candidates, judged)
    candidates = tuple(sorted((_corrected(one, error) for one in judged), key=lambda one: _replan_order(one, plan)))
    choice = next((one for one in candidates if one.is_expected), None)
    count = sum(is_telling(outcome, site) for outcome in outcomes.values())
    has_full = any(one.is_expected and one.strategy.rung.method is Method.FULL for one in candidates)
    is_advised = not has_full and (choice is None) == (plan.choice is None)
    return replace(
        plan,
        choice=choice,
        candidates=candidates,
        would_fit=plan.would_fit if is_advised else (),
        resorts=plan.resorts if is_advised else (),
        baseline=_rebased(plan.baseline, judged, error),
        rehearsal=Rehearsal(site.device, count, site.is_same_kind, error is not None, notes),
    )


def _rebased(baseline: Rated | None, judged: Sequence[Candidate], error: float | None) -> Rated | None:
    """What ratios are of, corrected as its candidate is: by its own rehearsal, else in time by those of the others."""
    if baseline is None:
        return None
    own = next((one for one in judged if one.strategy == baseline.strategy and one.rehearsed is not None), None)
    cost = baseline.cost if own is None or own.estimate is None else predicted_cost(own.estimate)
    if error is not None and (own is None or not _is_timed(own)):
        cost = replace(cost, token_s=error * cost.token_s)
    return replace(baseline, cost=cost)


def is_telling(outcome: Outcome, site: RehearsalSite) -> bool:
    """Whether a rehearsal said something of the machine that is planned for."""
    if isinstance(outcome, OutOfMemory):
        return outcome.place is Place.DEVICE and site.is_limited
    return isinstance(outcome, Measured)


def _judged(one: Candidate, outcome: Outcome | None, site: RehearsalSite) -> Candidate:
    if outcome is None or not is_telling(outcome, site):
        return one
    if isinstance(outcome, OutOfMemory):
        reason = f"ran out of memory in rehearsal on {site.device}"
        return replace(one, verdict=Verdict.TOO_LARGE, reason=reason, is_expected=False, shortfall=None)
    assert isinstance(outcome, Measured)
    assert one.estimate is not None
    return _measured(one, one.estimate, outcome, site)


def _measured(one: Candidate, estimate: Estimate, seen: Measured, site: RehearsalSite) -> Candidate:
    setting, is_timed = site.setting, site.is_timed(one.strategy)
    carried = seen if site.is_same_kind else _carried(seen, setting)
    whole = as_probe(Trial(one.strategy, estimate, carried, is_rehearsal=True), setting)
    beside_bytes = communicator_bytes(one.strategy.rung, setting)
    memory = _memory(estimate.memory, carried.peak_device_bytes, beside_bytes)
    found = _ruling(memory, whole, site)
    return replace(
        one,
        estimate=Estimate(memory, _speed(carried, whole) if is_timed else estimate.speed),
        verdict=found.verdict,
        reason=found.reason,
        shortfall=found.shortfall,
        is_expected=found.verdict is not Verdict.TOO_LARGE and leaves_room(memory, setting),
        rehearsed=Rehearsed(seen, beside_bytes, whole.step_s - seen.step_s if is_timed else None),
    )


def _carried(seen: Measured, setting: Setting) -> Measured:
    """What was seen on a device of another kind, carried over: the tensors there, with the runtime and the
    fragmentation of this kind."""
    tensors_bytes = setting.constants.fragmentation * (seen.peak_device_bytes - seen.base_bytes)
    return replace(seen, peak_device_bytes=setting.runtime_bytes + round(tensors_bytes))


def _ruling(memory: MemoryEstimate, whole: Measured, site: RehearsalSite) -> Ruling:
    """Judges what was rehearsed: what was seen on rank 0 is certain, what was added is not; kernels of another kind are
    held to be as uncertain as an estimate."""
    setting, device = site.setting, site.device
    has_bytes = setting.device_memory_bytes
    took = f"{format_bytes(memory.peak_bytes)} of {format_bytes(has_bytes)}"
    if memory.low_bytes > has_bytes:
        short = Shortfall(Place.DEVICE, memory.low_bytes - has_bytes)
        return too_large(short, f"rehearsed on {device}: takes {took}")
    if whole.alloc_retries:
        return Ruling(Verdict.TOO_LARGE, f"too tight in rehearsal: the allocator on {device} had to make room")
    sure_bytes = has_bytes if site.is_same_kind else SURE_SHARE * has_bytes
    is_sure = leaves_room(memory, setting) and memory.peak_bytes <= sure_bytes
    return Ruling(Verdict.FITS if is_sure else Verdict.PROBE, f"rehearsed on {device}: takes {took}")


def _memory(estimate: MemoryEstimate, seen_bytes: int, beside_bytes: int) -> MemoryEstimate:
    """The breakdown with what was measured as its peak: what it differs by falls to the parts that are known least.

    What was added may be nothing, or twice as much.
    """
    peak_bytes = seen_bytes + beside_bytes
    parts: dict[str, Any] = {}
    left_bytes = peak_bytes - estimate.peak_bytes
    for name in _ABSORBING:
        part_bytes = getattr(estimate, name)
        parts[name] = max(0, part_bytes + left_bytes)
        left_bytes += part_bytes - parts[name]
    return replace(estimate, **parts, low_bytes=seen_bytes, high_bytes=peak_bytes + beside_bytes)


def _speed(seen: Measured, whole: Measured) -> SpeedEstimate:
    return SpeedEstimate(
        tokens_per_step=whole.tokens_per_s * whole.step_s,
        compute_s=seen.step_s - seen.update_s,
        communication_s=whole.step_s - seen.step_s,
        offload_s=0.0,  # part of what was seen
        update_s=seen.update_s,
    )


def _time_error(before: Sequence[Candidate], after: Sequence[Candidate]) -> float | None:
    """The factor by which steps take longer than was estimated; None where no time was measured."""
    ratios = [
        late.estimate.speed.step_s / early.estimate.speed.step_s
        for early, late in zip(before, after, strict=True)
        if _is_timed(late) and early.estimate is not None and late.estimate is not None
    ]
    return median(ratios) if ratios else None


def _corrected(one: Candidate, error: float | None) -> Candidate:
    if error is None or one.estimate is None or _is_timed(one):
        return one
    speed = one.estimate.speed
    names = ("compute_s", "communication_s", "offload_s", "update_s", "clearing_s")
    parts: dict[str, Any] = {name: error * getattr(speed, name) for name in names}
    return replace(one, estimate=replace(one.estimate, speed=replace(speed, **parts, is_absolute=True)))


def _is_timed(one: Candidate) -> bool:
    return one.rehearsed is not None and one.rehearsed.communication_s is not None


def _replan_order(one: Candidate, plan: Plan) -> tuple[bool, bool, bool, PlanOrder]:
    """The order of every plan, but that what was measured stands before what was only estimated."""
    return not one.is_expected, not one.verdict.may_fit, not _is_timed(one), plan_order(one, plan.request.objective)
