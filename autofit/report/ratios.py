"""SpeedUp, MemoryUp and EnergyUp as people and programs read them: a `~` stands before what is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autofit.domain.codec import encode
from autofit.domain.efficiency import Rated
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.outcome import Measured
from autofit.domain.plan import Candidate, Verdict
from autofit.domain.trial import Choice, Trial
from autofit.planning.plan.baseline import measured_cost, predicted_cost

NAMES = ("SpeedUp", "MemoryUp", "EnergyUp")


def rated(trial: Trial, kind: DeviceKind) -> Rated | None:
    """What a whole probe measured; None where it failed, ended early or was a rehearsal, which leaves things out."""
    outcome = trial.outcome
    if not isinstance(outcome, Measured) or outcome.is_outpaced or trial.is_rehearsal:
        return None
    return Rated(trial.strategy, measured_cost(outcome, kind))


def ratio_texts(one: Rated | None, baseline: Rated | None) -> tuple[str, ...]:
    """The ratios in the order of NAMES, `1.31×` or `~1.31×`, empty where one is not known; none without a baseline."""
    if one is None or baseline is None:
        return ()
    ratios, is_measured = one.over(baseline), one.is_measured_over(baseline)
    each = (ratios.speed_up, ratios.memory_up, ratios.energy_up)
    return tuple("" if ratio is None else ratio_text(ratio, is_measured=is_measured) for ratio in each)


def ratio_text(ratio: float, *, is_measured: bool) -> str:
    """One of them: `1.31×` or `~1.31×`."""
    return f"{'' if is_measured else '~'}{ratio:.2f}×"


def choice_ratios_text(choice: Choice, hardware: Hardware | None) -> str:
    """The ratios of what was chosen: `SpeedUp 1.31× · MemoryUp 2.10× of zero0 mb4`; empty where there are none."""
    baseline = choice.baseline
    if baseline is None or choice.measured is None or hardware is None:
        return ""
    return _ratios_text(Rated(choice.strategy, measured_cost(choice.measured, hardware.kind)), baseline)


def _ratios_text(one: Rated, baseline: Rated) -> str:
    if one.strategy == baseline.strategy:
        return "1: it is itself what they are of"
    told = (f"{name} {text}" for name, text in zip(NAMES, ratio_texts(one, baseline), strict=True) if text)
    return f"{' · '.join(told)} of {baseline_text(baseline)}"


def baseline_text(baseline: Rated) -> str:
    """The baseline and what is known of it: `zero0 mb4 (predicted)`."""
    if baseline.cost.is_measured:
        return str(baseline.strategy)
    return f"{baseline.strategy} (predicted{'' if baseline.fits else ', it does not fit'})"


def candidate_rated(candidate: Candidate) -> Rated | None:
    """What is predicted of a candidate, or partly known by a rehearsal; None where it cannot run."""
    if candidate.estimate is None or candidate.verdict is Verdict.UNSUPPORTED:
        return None
    return Rated(candidate.strategy, predicted_cost(candidate.estimate), candidate.is_expected)


def candidate_ratios_text(candidate: Candidate, baseline: Rated | None) -> str:
    """The predicted ratios of a candidate: `SpeedUp ~1.31× · MemoryUp ~2.10× of zero0 mb4 (predicted)`; empty where
    there are none."""
    one = candidate_rated(candidate)
    return "" if one is None or baseline is None else _ratios_text(one, baseline)


def trials_body(trials: Sequence[Trial], choice: Choice | None, hardware: Hardware | None) -> list[dict[str, Any]]:
    """The trials for programs, each with its `efficiency`: null without a baseline and where nothing was measured."""
    baseline = None if choice is None else choice.baseline
    known = [None if hardware is None else rated(trial, hardware.kind) for trial in trials]
    return [
        {**encode(trial), "efficiency": efficiency_body(one, baseline)}
        for trial, one in zip(trials, known, strict=True)
    ]


def efficiency_body(one: Rated | None, baseline: Rated | None) -> dict[str, Any] | None:
    """The ratios for programs; None where one of the two is not known."""
    if one is None or baseline is None:
        return None
    ratios = one.over(baseline)
    return {
        "speed_up": ratios.speed_up,
        "memory_up": ratios.memory_up,
        "energy_up": ratios.energy_up,
        "product": ratios.product,
        "baseline": str(baseline.strategy),
        "is_measured": one.is_measured_over(baseline),
    }
