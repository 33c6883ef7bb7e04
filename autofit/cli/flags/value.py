"""Kinds of values that flags take."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autofit.domain.knobs.knob import Knob
from autofit.domain.request import Reward
from autofit.domain.task import Task
from autofit.domain.units import parse_bytes
from autofit.planning.plan.cost import Price

if TYPE_CHECKING:
    _Kind = click.ParamType[Any]
else:
    _Kind = click.ParamType  # generic only in the newest click

_YES = {"on", "true", "yes", "1"}
_NO = {"off", "false", "no", "0"}
_FACTORS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


class Size(_Kind):
    """Reads `24GiB` as a number of bytes."""

    name = "SIZE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            size_bytes = parse_bytes(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if size_bytes == 0:
            self.fail("nothing fits into no memory.", param, ctx)
        return size_bytes


class Tokens(_Kind):
    """Reads `1e9`, `300M` or `2B` as a number."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        factor = _FACTORS.get(text[-1:], 1.0)
        try:
            count = float(text[:-1] if factor > 1 else text) * factor
        except ValueError:
            count = 0.0
        if not 1 <= count < 1e18:
            self.fail(f"'{value}' is not a number of tokens; write it like 300M, 2B or 1e9.", param, ctx)
        return count


class RewardSource(_Kind):
    """Reads `module:function`, a folder or a hub id, with its weight behind an `=`, 1 unless told."""

    name = "REWARD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Reward:
        if isinstance(value, Reward):
            return value
        source, _, weight = str(value).partition("=")
        try:
            number = float(weight) if weight else 1.0
        except ValueError:
            number = math.nan
        if not source or not math.isfinite(number) or number == 0:
            self.fail(f"'{value}' is no reward with its weight; write it like rewards.py:brief=0.3.", param, ctx)
        return Reward(source, number)


class DevicePrice(_Kind):
    """Reads `2.5` and `8xA100-80GB=2.5`: of all machines, or of those that the name means."""

    name = "[NAME=]AMOUNT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Price:
        if isinstance(value, Price):
            return value
        name, _, amount = str(value).rpartition("=")
        try:
            number = float(amount)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number <= 0:
            self.fail(f"'{value}' is no price of a device-hour; write it like 2.5, or A100-80GB=2.5.", param, ctx)
        return Price(number, name.strip() or None)


class Folder(_Kind):
    """A path that is not empty: an empty one would mean the folder in which one happens to be."""

    name = "FOLDER"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value).strip():
            self.fail("an empty name is no folder; write . for the one you are in.", param, ctx)
        return Path(str(value))


class Count(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"


class Amount(click.FloatRange):
    """A finite number within bounds."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"'{value}' is not a finite number.", param, ctx)
        return number


class Share(Amount):
    """Reads `1%` and `0.01`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, str) and value.endswith("%"):
            value = click.FLOAT(value[:-1], param, ctx) / 100
        return super().convert(value, param, ctx)


class Switch(_Kind):
    """Reads `on`, `off`, and the spellings of yes and no that other launchers take."""

    name = "on|off"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        word = _switch_word(str(value))
        if word not in ("on", "off"):
            self.fail(f"'{value}' is not one of on, off.", param, ctx)
        return word == "on"


def is_switch(knob: Knob[Any]) -> bool:
    """Whether the knob's flag may stand without a value, which means on."""
    return {"on", "off"} <= {known.word for known in knob.values}


def _switch_word(text: str) -> str:
    """The word on or off where the text means it, else the text itself."""
    word = text.lower()
    return "on" if word in _YES else "off" if word in _NO else text


class Pinned(_Kind):
    """A value of a knob by its word; `auto` (None) leaves the knob to the search."""

    def __init__(self, knob: Knob[Any]) -> None:
        self.name = "|".join(known.word for known in knob.values)
        self._knob = knob

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or isinstance(value, Enum):
            return value
        if value.lower() == "auto":
            return None
        try:
            return self._knob.read(_switch_word(value) if is_switch(self._knob) else value)
        except ValueError as error:
            is_known = value in dict(self._knob.refused)
            self.fail(f"{error}." if is_known else f"{error}, or auto.", param, ctx)


class Names(_Kind):
    """Reads `a,b` as a tuple; `none` and nothing are the empty one."""

    name = "NAMES"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(word.strip() for word in str(value).split(",") if word.strip())
        return () if names == ("none",) else names


class Tasks(Names):
    """Reads `sft,dpo` as tasks, each once."""

    name = "TASKS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Task, ...]:
        words = super().convert(value, param, ctx)
        known = {task.value: task for task in Task}
        for word in words:
            if word not in known:
                self.fail(f"'{word}' is not one of {', '.join(known)}.", param, ctx)
        if not words:
            self.fail(f"name one at least of {', '.join(known)}.", param, ctx)
        return tuple(dict.fromkeys(known[word] for word in words))
