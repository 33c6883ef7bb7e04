"""Kinds of numbers that flags take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from autofit.domain.units import parse_bytes

if TYPE_CHECKING:
    from autofit.planning.plan.cost import Price

    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # generic only in the newest click

_MOST_DIGITS = 100
_FACTORS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


class Size(Kind):
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


class Tokens(Kind):
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


class DevicePrice(Kind):
    """Reads `2.5` and `8xA100-80GB=2.5`: of all machines, or of those that the name means."""

    name = "[NAME=]AMOUNT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Price:
        from autofit.planning.plan.cost import Price  # of plan's flags alone

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


MOST = 2**31 - 1
"""What 32 bits hold, in which torch and DeepSpeed count rows, tokens and steps."""


class Count(click.IntRange):
    """A whole number within bounds, of which the upper one is MOST unless told."""

    name = "whole number"

    def __init__(self, min: int, max: int = MOST) -> None:
        super().__init__(min, max)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if len(str(value)) > _MOST_DIGITS:  # beyond some thousands Python reads none
            self.fail(f"a number of {len(str(value)):,} characters is too large.", param, ctx)
        return int(super().convert(value, param, ctx))


class Amount(click.FloatRange):
    """A finite number within bounds."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = click.FLOAT(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"'{value}' is not a finite number.", param, ctx)
        return float(super().convert(number, param, ctx))


class Share(Amount):
    """Reads `1%` and `0.01`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, str) and value.endswith("%"):
            value = click.FLOAT(value[:-1], param, ctx) / 100
        return super().convert(value, param, ctx)
