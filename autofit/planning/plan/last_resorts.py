"""The last resorts: what would fit, and in which order they are tried where people allow them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from autofit.domain.estimate import Estimate
from autofit.domain.knobs.allowance import LAST_RESORTS
from autofit.domain.knobs.knob import Knob, Value
from autofit.domain.knobs.last_resort import LastResort
from autofit.domain.ladder import Ladder
from autofit.domain.resort import Resort
from autofit.domain.strategy import KNOBS, Rung, Strategy
from autofit.planning.setting import Setting
from autofit.planning.space.axes import Settled, rungs

from .fit import fitting


def next_resort(setting: Setting, settled: Settled) -> LastResort | None:
    """The next last resort that adds rungs to those that are tried; None where they are not all allowed, or where none
    is left."""
    if LAST_RESORTS not in setting.request.allow:
        return None
    tried = len(rungs(setting, settled))
    return next((order for order in _left(setting) if len(rungs(with_resort(setting, order), settled)) > tried), None)


def with_resort(setting: Setting, order: LastResort) -> Setting:
    """The setting with the last resorts up to `order` as if they were allowed."""
    return replace(setting, resort=order)


def resort_text(order: LastResort, ladder: Ladder) -> str:
    """What people are told where it begins: its values on the ladder, each with what it gives up."""
    values = (value for step in ladder.steps for _, value in step.rung.changed if value.last_resort is order)
    told = [f"{value.text} ({value.gives_up})" for value in dict.fromkeys(values)]
    return f"nothing fits as it was asked for, so the next last resort is tried: {', '.join(told) or 'too large, too'}"


def last_resorts(setting: Setting, settled: Settled, underestimate: float = 1.0) -> tuple[Resort, ...]:
    """The last resorts with which something is predicted to fit, each at its fastest: in their order, and those of the
    same order by speed.

    `underestimate` is the factor by which predictions of device memory were seen to be too low.
    """
    found = [
        resort for knob, value in _untried(setting) for resort in _fitting(knob, value, setting, settled, underestimate)
    ]
    return tuple(sorted(found, key=lambda one: (one.order, -one.estimate.speed.tokens_per_s)))


def resort_rungs(setting: Setting, settled: Settled) -> tuple[Rung, ...]:
    """The rungs that `last_resorts` looks at."""
    return tuple(rung for knob, value in _untried(setting) for rung in _rungs(knob, value, setting, settled))


def _left(setting: Setting) -> Iterator[LastResort]:
    return (order for order in LastResort if setting.resort is None or order > setting.resort)


def _untried(setting: Setting) -> Iterator[tuple[Knob[Any], Value[Any]]]:
    """The last resorts that are neither allowed nor pinned, nor ruled out by a pin of their knob."""
    left = set(_left(setting))
    for knob in KNOBS:
        for value in knob.values if setting.request.pins.of(knob) is None else ():
            if value.last_resort in left and value.word not in setting.request.allow:
                yield knob, value


def _rungs(knob: Knob[Any], value: Value[Any], setting: Setting, settled: Settled) -> tuple[Rung, ...]:
    """The rungs that have the value: those that its being allowed adds."""
    allowed = replace(setting, request=replace(setting.request, allow=(*setting.request.allow, value.word)))
    return tuple(rung for rung in rungs(allowed, settled) if getattr(rung, knob.name) == value.value)


def _fitting(
    knob: Knob[Any], value: Value[Any], setting: Setting, settled: Settled, underestimate: float
) -> Iterator[Resort]:
    """The value's fastest strategy that fits, if any does."""
    assert value.last_resort is not None
    pairs = [*fitting(_rungs(knob, value, setting, settled), setting, underestimate)]
    if pairs:
        strategy, estimate = max(pairs, key=_speed)
        yield Resort(value.last_resort, _words(strategy.rung, setting), value.gives_up, strategy, estimate)


def _speed(pair: tuple[Strategy, Estimate]) -> float:
    return pair[1].speed.tokens_per_s


def _words(rung: Rung, setting: Setting) -> tuple[str, ...]:
    """What must be allowed for the rung: all that it gives up but for what is pinned."""
    pins = setting.request.pins
    return tuple(value.word for knob, value in rung.values() if value.gives_up and pins.of(knob) is None)
