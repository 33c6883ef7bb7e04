"""Tracing a few layers for many: decoder layers repeat, and so does what they hold."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

KEPT_PERIODS = 2
"""What a period adds is told by the second one beside the first."""


@dataclass(frozen=True)
class Depth:
    """Which of the decoder's layers run: all, but for `left_out` whole periods of those that repeat from `start` on."""

    count: int  # all layers
    start: int = 0
    period: int = 1
    kept: int = KEPT_PERIODS  # periods that run
    left_out: int = 0  # periods that do not

    def first_period(self) -> range:
        return range(self.start, self.start + self.period)

    def kept_periods(self) -> range:
        return range(self.start, self.start + self.kept * self.period)

    def periods(self) -> list[range]:
        """The periods that run."""
        starts = range(self.start, self.kept_periods().stop, self.period)
        return [range(start, start + self.period) for start in starts]

    def left_out_layers(self) -> range:
        first = self.kept_periods().stop
        return range(first, first + self.left_out * self.period)

    def shallower(self) -> Depth:
        """The same with one period less."""
        return replace(self, kept=self.kept - 1, left_out=self.left_out + 1)


def choose_depth(marks: Sequence[Hashable]) -> Depth:
    """The depth with the fewest layers that says it all, where layers of the same mark do the same.

    What repeats may stand anywhere, with other layers before it and behind it. All layers run where nothing repeats
    three times.
    """
    best = Depth(len(marks))
    for period in range(1, len(marks) // (KEPT_PERIODS + 1) + 1):
        for start, length in _stretches(marks, period):
            depth = Depth(len(marks), start, period, left_out=max(0, length // period - KEPT_PERIODS))
            best = max(best, depth, key=lambda one: len(one.left_out_layers()))  # the first of equals: short periods
    return best


def _stretches(marks: Sequence[Hashable], period: int) -> Iterator[tuple[int, int]]:
    """Where marks repeat after `period` layers: the first layer and the number of layers of each stretch."""
    start = 0
    for index in range(len(marks) - period + 1):
        if index == len(marks) - period or marks[index] != marks[index + period]:
            yield start, index - start + period
            start = index + 1
