"""What people may allow beside a training as it is asked for: values that change it, by their words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from autofit.domain.strategy import KNOBS

from .knob import Knob, Value
from .last_resort import LastResort

LAST_RESORTS = "last-resorts"
"""Allows every last resort, each where nothing before it fits."""

ALLOWABLE: Mapping[str, Value[Any]] = {value.word: value for knob in KNOBS for value in knob.values if value.gives_up}
"""The values that are tried only where they are asked for, by their words."""


def check_allowed(words: Collection[str]) -> None:
    """Checks what is allowed; ValueError names the words that there are."""
    known = (*ALLOWABLE, LAST_RESORTS)
    for word in words:
        if word not in known:
            raise ValueError(f"'{word}' is not one of {', '.join(known)}")


def candidates(
    knob: Knob[Any], pinned: Any, allowed: Collection[str], resort: LastResort | None
) -> tuple[Value[Any], ...]:
    """The values of a knob that may be tried: what is pinned, else the plain ones and what is allowed. With `resort`
    the last resorts up to it are as if they were allowed."""
    if pinned is not None:
        return (knob.of(pinned),)
    return tuple(value for value in knob.values if not value.gives_up or _is_allowed(value, allowed, resort))


def _is_allowed(value: Value[Any], allowed: Collection[str], resort: LastResort | None) -> bool:
    is_reached = resort is not None and value.last_resort is not None and value.last_resort <= resort
    return value.word in allowed or is_reached
