"""What is compared: the baseline, and the baseline with one optimization more, all at one micro-batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autofit.domain.comparison import NotCompared, Optimization
from autofit.domain.efficiency import Rated
from autofit.domain.errors import UsageError
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.knob import Knob
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.knobs.offload import OFFLOAD, Offload
from autofit.domain.knobs.zero_stage import ZERO_STAGE
from autofit.domain.plan import Candidate
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.setting import Setting
from autofit.planning.space.axes import check_pins, combinations, settle
from autofit.planning.space.ladder_builder import estimate_of, useful_steps

from .baseline import baseline_of, is_named, predicted_cost
from .fit import judge

_TURNED: Mapping[Optimization, tuple[Knob[Any], object]] = {
    Optimization.ZERO_1: (ZERO_STAGE, 1),
    Optimization.ZERO_2: (ZERO_STAGE, 2),
    Optimization.ZERO_3: (ZERO_STAGE, 3),
    Optimization.CHECKPOINTING: (GRADIENT_CHECKPOINTING, GradientCheckpointing.ON),
    Optimization.LORA: (METHOD, Method.LORA),
    Optimization.OFFLOAD: (OFFLOAD, Offload.OPTIMIZER),
}
_OFFLOADED_STAGE = 2  # beside a baseline whose stage moves nothing to the host


@dataclass(frozen=True)
class RuledOut:
    """What probes showed of baselines: those that did not fit, and rungs that did not run for another reason."""

    too_large: tuple[Strategy, ...] = ()
    broken: tuple[Rung, ...] = ()

    def has(self, strategy: Strategy) -> bool:
        """Whether it cannot be the baseline: a larger micro-batch does not fit where a smaller one did not."""
        larger = (one.rung == strategy.rung and one.micro_batch <= strategy.micro_batch for one in self.too_large)
        return strategy.rung in self.broken or any(larger)

    def after(self, strategy: Strategy, *, has_failed: bool) -> RuledOut:
        """With a baseline more that is none: it did not fit, or it failed for another reason."""
        if has_failed:
            return replace(self, broken=(*self.broken, strategy.rung))
        return replace(self, too_large=(*self.too_large, strategy))


@dataclass(frozen=True)
class Lineup:
    """`why` says why the baseline is not the plainest strategy there is; None where it is."""

    baseline: Rated  # as predicted
    others: tuple[tuple[Optimization, Strategy | NotCompared], ...]
    why: str | None = None


def turned(baseline: Rung, optimization: Optimization) -> Rung:
    """The baseline with one optimization more; offload brings ZeRO-2 along where the baseline's stage has none."""
    knob, value = _TURNED[optimization]
    values = {**baseline.by_name, knob.name: value}
    stages = [need.values for need in knob.of(value).needs if need.knob == ZERO_STAGE.name]
    if any(values[ZERO_STAGE.name] not in known for known in stages):
        values[ZERO_STAGE.name] = _OFFLOADED_STAGE
    return Rung(**values)


def line_up(setting: Setting, ruled_out: RuledOut = RuledOut()) -> Lineup:
    """The baseline that the request names, or the plainest that is expected to fit and is not ruled out, at the largest
    micro-batch at which most of the others are expected to fit.

    UsageError when the pins exclude each other or leave no strategy at all, or when none has the baseline's name.
    """
    check_pins(setting)
    rated = _rated(setting, ruled_out)
    found = baseline_of(rated, setting.request.baseline)
    if found is None:
        raise UsageError(_nothing_text(setting))
    others = _others(found.strategy.rung, setting)
    baseline = _with_most_beside(found, rated, [rung for _, rung in others if isinstance(rung, Rung)], setting)
    strategies = (beside(baseline.strategy, one) if isinstance(one, Rung) else one for _, one in others)
    return Lineup(
        baseline, tuple(zip(Optimization, strategies, strict=True)), _why(baseline, rated, ruled_out, setting)
    )


def _with_most_beside(found: Rated, rated: Sequence[Rated], others: Sequence[Rung], setting: Setting) -> Rated:
    """The baseline at the micro-batch at which most of the others are expected to fit, the largest of such."""
    alike = (one for one in rated if one.strategy.rung == found.strategy.rung and _is_asked(one.strategy, setting))
    fitting = [one for one in alike if one.fits] or [found]
    return max(fitting, key=lambda one: (_fitting_count(others, one.strategy, setting), one.strategy.micro_batch))


def beside(baseline: Strategy, rung: Rung) -> Strategy:
    """Another rung with the rows of the baseline."""
    return Strategy(rung, baseline.micro_batch, baseline.gradient_accumulation)


def judged(strategy: Strategy, setting: Setting) -> Candidate:
    """The prediction of a strategy with whether it will fit."""
    return judge(strategy, estimate_of(strategy, setting), setting)


def _rated(setting: Setting, ruled_out: RuledOut) -> tuple[Rated, ...]:
    steps = useful_steps(setting, settle(setting))
    pairs = (pair for step in steps for pair in zip(step.strategies, step.estimates, strict=True))
    return tuple(
        Rated(one, predicted_cost(estimate), judge(one, estimate, setting).is_expected and not ruled_out.has(one))
        for one, estimate in pairs
    )


def _nothing_text(setting: Setting) -> str:
    reasons = dict.fromkeys(why for _, why in combinations(setting, settle(setting)) if why is not None)
    return f"nothing of what is asked for can be compared here: {'; '.join(reasons)}"


def _others(baseline: Rung, setting: Setting) -> list[tuple[Optimization, Rung | NotCompared]]:
    reasons = dict(combinations(setting, settle(setting)))
    return [(one, _other(turned(baseline, one), baseline, reasons, setting)) for one in Optimization]


def _other(rung: Rung, baseline: Rung, reasons: Mapping[Rung, str | None], setting: Setting) -> Rung | NotCompared:
    if rung == baseline:
        return NotCompared("the baseline has it")
    why = reasons[rung] if rung in reasons else next(_why_none(rung, setting))
    return rung if why is None else NotCompared(why)


def _why_none(rung: Rung, setting: Setting) -> Iterator[str]:
    """Why a rung is no combination of what is asked for."""
    for knob, value in rung.values():
        pinned = setting.request.pins.of(knob)
        if pinned is not None and pinned != value.value and knob.flag is not None:
            yield f"{knob.flag.name} {knob.of(pinned).word} leaves it out"
        yield from (need.why for need in value.needs if rung.by_name[need.knob] not in need.values)


def _is_asked(strategy: Strategy, setting: Setting) -> bool:
    named = setting.request.baseline
    return named is None or is_named(strategy, named)


def _fitting_count(rungs: Iterable[Rung], baseline: Strategy, setting: Setting) -> int:
    return sum(judged(beside(baseline, rung), setting).is_expected for rung in rungs)


def _why(baseline: Rated, rated: Sequence[Rated], ruled_out: RuledOut, setting: Setting) -> str | None:
    if setting.request.baseline is not None:
        return "asked for" if baseline.fits else "asked for, and does not fit"
    if not baseline.fits:
        return "nothing fits"
    plainest = baseline_of(replace(one, fits=True) for one in rated)
    assert plainest is not None
    rung = plainest.strategy.rung
    if rung == baseline.strategy.rung:
        return None
    return f"{rung} does not {'run' if rung in ruled_out.broken else 'fit'}"
