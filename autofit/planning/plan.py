"""The plan of one request on one machine: every rung at its best micro-batch, judged, and the pick."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from autofit.domain.errors import UsageError
from autofit.domain.hardware import Hardware
from autofit.domain.ladder import Step
from autofit.domain.plan import Candidate, Plan, Verdict
from autofit.domain.strategy import Attention, Dtype, Method, Rung

from .advice import would_fit
from .axes import check_pins, pick_attention, pick_dtype, rungs
from .capability import why_no_flash
from .ladder import make_step
from .setting import Setting
from .verdict import judge

_ORDER = (Verdict.FITS, Verdict.PROBE, Verdict.TOO_LARGE, Verdict.UNSUPPORTED)


def make_plan(
    setting: Setting,
    kernels: tuple[Attention, ...],
    dtypes: tuple[Dtype, ...],
    *,
    bigger: tuple[Hardware, ...] = (),
    notes: tuple[str, ...] = (),
) -> Plan:
    """`kernels` and `dtypes` are those that work on the machine, best first; `bigger` are machines to compare with.

    UsageError when the ranks cannot share the global batch or the pins exclude each other. Pins that the device lacks
    are no error: then every candidate is unsupported, and says why.
    """
    check_pins(setting)
    try:
        dtype = pick_dtype(setting, dtypes)
        attention = pick_attention(setting, kernels, dtype)
    except UsageError as error:
        return _plan(setting, tuple(_unsupported(_pinned(setting, dtypes), str(error), setting)), (), notes)
    able = sorted((_best(make_step(rung, setting), setting) for rung in rungs(setting, attention, dtype)), key=place)
    lacking = _without_flash([candidate.strategy.rung for candidate in able], kernels, dtype, setting)
    return _plan(setting, (*able, *lacking), _advice(able, setting, attention, dtype, bigger), notes)


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
    """The fastest micro-batch that is expected to fit, else the leanest."""
    judged = [judge(strategy, one, setting) for strategy, one in zip(step.strategies, step.estimates, strict=True)]
    expected = [candidate for candidate in judged if candidate.is_expected]
    return max(expected, key=_speed) if expected else judge(step.leanest, step.estimate(step.leanest), setting)


def place(candidate: Candidate) -> tuple[bool, int, float]:
    """Expected to fit first, then by verdict; the fastest first, the nearest first of those that are too large.

    Speeds within 1 % count as equal, so that of two such rungs the plainer one stays in front.
    """
    assert candidate.estimate is not None
    is_too_large = candidate.verdict is Verdict.TOO_LARGE
    within = candidate.estimate.memory.low_bytes if is_too_large else -round(math.log(_speed(candidate)), 2)
    verdict = 0 if candidate.is_expected else _ORDER.index(candidate.verdict)
    return not candidate.is_expected, verdict, within


def _speed(candidate: Candidate) -> float:
    assert candidate.estimate is not None
    return candidate.estimate.speed.tokens_per_s


def _without_flash(
    tried: Iterable[Rung], kernels: tuple[Attention, ...], dtype: Dtype, setting: Setting
) -> Iterator[Candidate]:
    """The same rungs with FlashAttention-2 where it would be taken if it could."""
    if Attention.FLASH_2 in kernels or setting.request.pins.attention is not None:
        return iter(())
    why = why_no_flash(setting.hardware, dtype) or "the package flash-attn is not installed"
    return _unsupported((replace(rung, attention=Attention.FLASH_2) for rung in tried), why, setting)


def _pinned(setting: Setting, dtypes: tuple[Dtype, ...]) -> tuple[Rung, ...]:
    pins = setting.request.pins
    return rungs(setting, pins.attention or Attention.SDPA, pins.dtype or dtypes[0])


def _unsupported(lacking: Iterable[Rung], why: str, setting: Setting) -> Iterator[Candidate]:
    for rung in lacking:
        step = make_step(rung, setting)
        yield Candidate(step.strategies[0], step.estimates[0], Verdict.UNSUPPORTED, why)


def _advice(
    able: list[Candidate], setting: Setting, attention: Attention, dtype: Dtype, bigger: tuple[Hardware, ...]
) -> tuple[str, ...]:
    """For whatever the request allows, or, where LoRA fits already, for all parameters."""
    if not any(candidate.is_expected for candidate in able):
        return would_fit(setting, attention, dtype, bigger=bigger)
    is_full = any(one.is_expected and one.strategy.rung.method is Method.FULL for one in able)
    if is_full or setting.request.pins.method is Method.LORA:
        return ()
    pins = replace(setting.request.pins, method=Method.FULL)
    full = replace(setting, request=replace(setting.request, pins=pins))
    return would_fit(full, attention, dtype, bigger=bigger, has_lora=False)
