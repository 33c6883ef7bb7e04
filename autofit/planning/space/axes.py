"""The rungs that a request and its pins leave, and why the others are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

from autofit.domain.errors import UsageError
from autofit.domain.knobs.allowance import candidates
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.knob import Knob, Need, PinFlag, Value, Values
from autofit.domain.knobs.optimizer import OPTIMIZER
from autofit.domain.strategy import KNOBS, Rung
from autofit.planning.gradient_clipping import why_unclipped
from autofit.planning.memory.activations import micro_step
from autofit.planning.setting import Setting

V = TypeVar("V")

_WEIGHTIEST_FIRST = sorted(KNOBS, key=lambda knob: (knob.changes_training, -KNOBS.index(knob)))
_SETTLED = tuple(knob for knob in KNOBS if knob.is_settled)
_COMPETING = tuple(knob for knob in reversed(KNOBS) if not knob.is_settled)


@dataclass(frozen=True)
class Other:
    """A value of a settled knob that is not taken, and why. `is_better` tells that it would be, if it could be used."""

    knob: Knob[Any]
    value: Value[Any]
    why: str
    is_better: bool

    def of(self, rung: Rung) -> Rung:
        """The rung with this value."""
        return Rung(**{**rung.by_name, self.knob.name: self.value.value})


@dataclass(frozen=True)
class Settled:
    """The one value that is tried of each settled knob, by the knob's name; `others` are what people are told of."""

    values: Mapping[str, Any]
    others: tuple[Other, ...] = ()


def settle(setting: Setting) -> Settled:
    """The pinned value of each settled knob or the best that works; UsageError says why a pinned value does not."""
    values: dict[str, Any] = {}
    others: list[Other] = []
    for knob in (*_SETTLED, *_COMPETING):
        works = knob.usable(values, setting.conditions)
        pinned = setting.request.pins.of(knob)
        if pinned is not None and pinned not in works:
            raise UsageError(_unusable_text(knob, pinned, values, setting))
        if knob.is_settled and not works:
            raise UsageError(_nothing_works_text(knob, values, setting))
        if knob.is_settled:
            if knob.tells_others and pinned is None:
                others += _others(knob, works, values, setting)
            values[knob.name] = works[0] if pinned is None else pinned
    return Settled(values, tuple(others))


def as_pinned(setting: Setting) -> Settled:
    """The pinned values whether they work or not: what a script has, or what a machine lacks."""
    values: dict[str, Any] = {}
    for knob in _SETTLED:
        pinned = setting.request.pins.of(knob)
        usable = knob.usable(values, setting.conditions) or tuple(one.value for one in knob.values)
        values[knob.name] = usable[0] if pinned is None else pinned
    return Settled(values)


def check_pins(setting: Setting) -> None:
    """Checks the pins; UsageError when they exclude each other, or what is asked for."""
    pinned = dict(setting.request.pins.fixed)
    optimizer = setting.request.pins.of(OPTIMIZER)
    if optimizer is not None and (why := why_unclipped(optimizer, setting.request.training.extra_arguments)):
        raise UsageError(f"training argument {why}")
    for knob in KNOBS:
        for need in knob.of(pinned[knob.name]).needs if knob.name in pinned else ():
            if pinned.get(need.knob, need.values[0]) not in need.values:
                raise UsageError(_need_text(knob, knob.of(pinned[knob.name]), need))


def combinations(setting: Setting, settled: Settled) -> tuple[tuple[Rung, str | None], ...]:
    """Every rung that the pins allow, with the reason why it is left out, None when it is to be tried."""
    key = (combinations, *settled.values.items())
    return setting.once(key, lambda: (*_combinations(setting, settled),))


def _combinations(setting: Setting, settled: Settled) -> Iterator[tuple[Rung, str | None]]:
    for values in product(*(_candidates(knob, setting) for knob in _COMPETING)):
        chosen = {knob.name: value.value for knob, value in zip(_COMPETING, values, strict=True)}
        everything = {**settled.values, **chosen}
        if all(everything[need.knob] in need.values for value in values for need in value.needs):
            rung = Rung(**everything)
            yield rung, _why_left_out(everything, setting) or why_unworkable(rung, setting)


def why_unworkable(rung: Rung, setting: Setting) -> str | None:
    """Why a rung whose values can all be used does not do what is asked for, or cannot be built at all."""
    return why_unclipped(rung.optimizer, setting.request.training.extra_arguments) or _why_unbuildable(rung, setting)


def _why_unbuildable(rung: Rung, setting: Setting) -> str | None:
    """What the rung's model met when it was to be built for its trace. Another linear layer and wider weights are built
    alike; what cannot be built without checkpointing cannot be with it."""
    for one in setting.unbuildable:
        step = micro_step(rung, one.of.micro_batch, setting)
        plain = GradientCheckpointing.OFF
        alike = replace(
            step,
            gradient_checkpointing=plain if one.of.gradient_checkpointing is plain else step.gradient_checkpointing,
            keeps_linear_inputs=one.of.keeps_linear_inputs,
            is_autocast=one.of.is_autocast,
        )
        if one.of == alike:
            return one.why
    return None


def rungs(setting: Setting, settled: Settled) -> tuple[Rung, ...]:
    """The rungs to try, memory aside."""
    return tuple(rung for rung, why in combinations(setting, settled) if why is None)


def plainness(rung: Rung) -> tuple[int, ...]:
    """The order of plainness: smaller where fewer things are turned on; how it is run weighs more than what is
    trained."""
    return tuple(knob.plainness(getattr(rung, knob.name)) for knob in _WEIGHTIEST_FIRST)


def _candidates(knob: Knob[V], setting: Setting) -> tuple[Value[V], ...]:
    request = setting.request
    return candidates(knob, request.pins.of(knob), request.allow, setting.resort)


def _why_left_out(values: Values, setting: Setting) -> str | None:
    """The first reason of a knob that is not pinned."""
    for knob in _COMPETING:
        if setting.request.pins.of(knob) is None:
            asked = (values[knob.name], values, setting.conditions)
            why: str | None = knob.why_not(*asked) or knob.why_pointless(*asked)
            if why is not None:
                return why
    return None


def _others(knob: Knob[V], works: tuple[V, ...], settled: Values, setting: Setting) -> Iterator[Other]:
    """The better values that do not work, and those that do and are not better."""
    for known in (one for one in knob.values if one.is_told_of):
        if known.value not in works and knob.plainness(known.value) < knob.plainness(works[0]):
            why = knob.why_not(known.value, settled, setting.conditions)
            assert why is not None
            yield Other(knob, known, why, is_better=True)
        elif known.value in works[1:]:
            yield Other(knob, known, f"{knob.of(works[0]).word} works here and is not slower", is_better=False)


def _unusable_text(knob: Knob[V], pinned: V, settled: Values, setting: Setting) -> str:
    if all(known.value != pinned for known in knob.values):
        return f"{_flag(knob).name} {pinned} is not one of {', '.join(known.word for known in knob.values)}"
    why = knob.why_not(pinned, settled, setting.conditions)
    names = " or ".join(knob.of(value).word for value in knob.usable(settled, setting.conditions))
    return f"{_flag(knob).name} {knob.of(pinned).word} cannot be used: {why}; use {names}"


def _nothing_works_text(knob: Knob[Any], settled: Values, setting: Setting) -> str:
    reasons = (f"{one.word}: {knob.why_not(one.value, settled, setting.conditions)}" for one in knob.values)
    return f"no {knob.name} can be used: {'; '.join(reasons)}"


def _need_text(knob: Knob[Any], value: Value[Any], need: Need) -> str:
    needed = next(other for other in KNOBS if other.name == need.knob)
    wanted = f"{_flag(needed).name} {' or '.join(needed.of(one).word for one in need.values)}"
    return f"{_flag(knob).name} {value.word} needs {wanted}: {need.why}"


def _flag(knob: Knob[Any]) -> PinFlag:
    assert knob.flag is not None, f"{knob.name} cannot be pinned"
    return knob.flag
