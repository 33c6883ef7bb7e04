"""The plan of one request on one machine: every rung at its best micro-batch, judged, and the pick."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from autofit.domain.efficiency import Rated
from autofit.domain.errors import UsageError
from autofit.domain.estimate import Estimate
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.ladder import Step
from autofit.domain.objective import Objective
from autofit.domain.plan import Candidate, Plan, Verdict
from autofit.domain.resort import Resort
from autofit.domain.strategy import Rung
from autofit.planning.predicted_merit import predicted_merit
from autofit.planning.setting import Setting
from autofit.planning.space.axes import Settled, as_pinned, check_pins, combinations, rungs, settle, why_unworkable
from autofit.planning.space.ladder_builder import make_step, useful_steps

from .advice import would_fit
from .baseline import baseline_of, predicted_cost
from .fit import judge
from .last_resorts import last_resorts, next_resort, with_resort

PlanOrder = tuple[bool, int, float, bool, float]

_ORDER = (Verdict.FITS, Verdict.PROBE, Verdict.TOO_LARGE, Verdict.UNSUPPORTED)


def make_plan(
    setting: Setting,
    *,
    bigger: tuple[Hardware, ...] = (),
    notes: tuple[str, ...] = (),
) -> Plan:
    """Makes the plan; `bigger` are machines to compare with. Where nothing is expected to fit, the last resorts are
    taken one after the other if all of them are allowed.

    UsageError when the ranks cannot share the global batch or the pins exclude each other. Pins that the device lacks
    are no error: then every candidate is unsupported, and says why.
    """
    check_pins(setting)
    try:
        settled = settle(setting)
    except UsageError as error:
        pinned = _unsupported(rungs(setting, as_pinned(setting)), str(error), setting)
        return _plan(setting, tuple(pinned), (), notes)
    baseline = _baseline(setting, settled)
    setting, able = _tried(setting, settled)
    wished = _wished([candidate.strategy.rung for candidate in able], settled, setting)
    lacking = (*wished, *_unworkable(settled, setting))
    plan = _plan(setting, (*able, *lacking), _advice(able, setting, settled, bigger), notes)
    return replace(plan, resorts=_resorts(able, setting, settled), baseline=baseline)


def _baseline(setting: Setting, settled: Settled) -> Rated | None:
    """What ratios are of, by its estimate; UsageError where the request names none."""
    rated = (
        Rated(strategy, predicted_cost(estimate), judge(strategy, estimate, setting).is_expected)
        for step in (make_step(rung, setting) for rung in rungs(setting, settled))
        for strategy, estimate in zip(step.strategies, step.estimates, strict=True)
    )
    return baseline_of(rated, setting.request.baseline)


def _tried(setting: Setting, settled: Settled) -> tuple[Setting, list[Candidate]]:
    """What is tried, best first, and the setting with the last resorts that are."""
    able: list[Candidate] = []
    while True:
        known = {one.strategy.rung for one in able}
        fresh = [step for step in useful_steps(setting, settled) if step.rung not in known]
        able = sorted([*able, *(_best(step, setting) for step in fresh)], key=order_of(setting.request.objective))
        order = None if any(one.is_expected for one in able) else next_resort(setting, settled)
        if order is None:
            return setting, able
        setting = with_resort(setting, order)


def _plan(setting: Setting, candidates: tuple[Candidate, ...], advice: tuple[str, ...], notes: tuple[str, ...]) -> Plan:
    choice = next((candidate for candidate in candidates if candidate.is_expected), None)
    kernels = {kernel for trace in setting.traces for kernel in trace.sdpa_kernels}
    return Plan(
        setting.shape,
        setting.hardware,
        setting.request,
        choice,
        candidates,
        advice,
        notes,
        sdpa_kernels=tuple(sorted(kernels)),
    )


def _best(step: Step, setting: Setting) -> Candidate:
    """The micro-batch that is best for what is looked for and expected to fit, else the leanest."""
    judged = [judge(strategy, one, setting) for strategy, one in zip(step.strategies, step.estimates, strict=True)]
    expected = [candidate for candidate in judged if candidate.is_expected]
    if not expected:
        return judge(step.leanest, step.estimate(step.leanest), setting)
    return min(expected, key=lambda one: _within(one, setting.request.objective))


def order_of(objective: Objective) -> Callable[[Candidate], PlanOrder]:
    return lambda candidate: plan_order(candidate, objective)


def plan_order(candidate: Candidate, objective: Objective = Objective.SPEED) -> PlanOrder:
    """The order of a plan: expected to fit first, then by verdict; the best for `objective` first, the nearest first of
    those that are too large.

    What differs within 1 % counts as equal: of two such rungs one that is sure to fit stands in front, of two that need
    about the least memory then the faster one, and then the plainer.
    """
    assert candidate.estimate is not None
    is_too_large = candidate.verdict is Verdict.TOO_LARGE
    merit = predicted_merit(candidate.estimate, objective)
    within = candidate.estimate.memory.low_bytes if is_too_large else -round(math.log(merit), 2)
    verdict = 0 if candidate.is_expected else _ORDER.index(candidate.verdict)
    slowness = _slowness(candidate.estimate) if objective is Objective.MEMORY else 0.0
    return not candidate.is_expected, verdict, within, candidate.verdict is not Verdict.FITS, slowness


def _within(candidate: Candidate, objective: Objective) -> tuple[float, float]:
    """The order among the micro-batches of one rung: of peaks that hardly differ the fastest."""
    assert candidate.estimate is not None
    merit = predicted_merit(candidate.estimate, objective)
    is_rounded = objective is Objective.MEMORY
    return (-round(math.log(merit), 2), _slowness(candidate.estimate)) if is_rounded else (-merit, 0.0)


def _slowness(estimate: Estimate) -> float:
    return -round(math.log(estimate.speed.tokens_per_s), 2)


def _wished(tried: Iterable[Rung], settled: Settled, setting: Setting) -> Iterator[Candidate]:
    """The same rungs with each better value that would be taken if it could be used."""
    for other in settled.others:
        if other.is_better:
            yield from _unsupported((other.of(rung) for rung in tried), other.why, setting)


def _unworkable(settled: Settled, setting: Setting) -> Iterator[Candidate]:
    for rung, why in combinations(setting, settled):
        if why is not None and why == why_unworkable(rung, setting):
            yield from _unsupported((rung,), why, setting)


def _unsupported(lacking: Iterable[Rung], why: str, setting: Setting) -> Iterator[Candidate]:
    for rung in lacking:
        step = make_step(rung, setting)
        yield Candidate(step.strategies[0], step.estimates[0], Verdict.UNSUPPORTED, why)


def _advice(able: list[Candidate], setting: Setting, settled: Settled, bigger: tuple[Hardware, ...]) -> tuple[str, ...]:
    """Advice for whatever the request allows, or, where LoRA fits already, for all parameters."""
    if not any(candidate.is_expected for candidate in able):
        return would_fit(setting, settled, bigger=bigger)
    full = _if_full_is_missed(able, setting)
    return () if full is None else would_fit(full, settled, bigger=bigger, has_lora=False)


def _resorts(able: list[Candidate], setting: Setting, settled: Settled) -> tuple[Resort, ...]:
    """The last resorts for the same."""
    if not any(candidate.is_expected for candidate in able):
        return last_resorts(setting, settled)
    full = _if_full_is_missed(able, setting)
    return () if full is None else last_resorts(full, settled)


def _if_full_is_missed(able: list[Candidate], setting: Setting) -> Setting | None:
    """The setting for all parameters alone, where LoRA fits and they do not although they are not ruled out; else
    None."""
    is_full = any(one.is_expected and one.strategy.rung.method is Method.FULL for one in able)
    if is_full or setting.request.pins.of(METHOD) is Method.LORA:
        return None
    pins = setting.request.pins.but(method=Method.FULL)
    return replace(setting, request=replace(setting.request, pins=pins))
