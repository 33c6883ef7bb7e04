"""The optimizations of a training one at a time, each beside the same baseline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Union

from .efficiency import Efficiency, Rated
from .hardware import Hardware
from .model import ModelShape
from .request import Request
from .strategy import Strategy
from .task import Task

NOTABLE = 1.01
"""The least ratio that counts as better than the baseline: speeds within 1 % are taken for equal elsewhere, too."""


class Optimization(str, Enum):
    ZERO_1 = "zero1"
    ZERO_2 = "zero2"
    ZERO_3 = "zero3"
    CHECKPOINTING = "checkpointing"
    LORA = "lora"
    OFFLOAD = "offload"

    @property
    def text(self) -> str:
        return _TEXTS[self]


_TEXTS = {
    Optimization.ZERO_1: "ZeRO-1",
    Optimization.ZERO_2: "ZeRO-2",
    Optimization.ZERO_3: "ZeRO-3",
    Optimization.CHECKPOINTING: "gradient checkpointing",
    Optimization.LORA: "LoRA",
    Optimization.OFFLOAD: "offload of the optimizer",
}


class Dimension(str, Enum):
    SPEED = "speed"
    MEMORY = "memory"
    ENERGY = "energy"

    def of(self, efficiency: Efficiency) -> float | None:
        """The ratio of this dimension; None where nothing was measured."""
        return {
            Dimension.SPEED: efficiency.speed_up,
            Dimension.MEMORY: efficiency.memory_up,
            Dimension.ENERGY: efficiency.energy_up,
        }[self]


@dataclass(frozen=True)
class Compared:
    """It fits, as far as it was measured or predicted."""

    rated: Rated
    efficiency: Efficiency


@dataclass(frozen=True)
class DoesNotFit:
    strategy: Strategy
    why: str


@dataclass(frozen=True)
class Failed:
    """Its probe came to no end for another reason than memory."""

    strategy: Strategy
    why: str


@dataclass(frozen=True)
class NotCompared:
    """Nothing was tried: there is no such strategy here, or the baseline has it already."""

    why: str


Standing = Union[Compared, DoesNotFit, Failed, NotCompared]


@dataclass(frozen=True)
class Row:
    optimization: Optimization
    standing: Standing

    def ratio(self, dimension: Dimension) -> float | None:
        """The ratio of one dimension; None where the row has none."""
        return dimension.of(self.standing.efficiency) if isinstance(self.standing, Compared) else None


@dataclass(frozen=True)
class TaskComparison:
    """The rows of one task, all at the baseline's micro-batch.

    `why` says why the baseline is not plain data parallel with nothing on, None where it is. Without `is_absolute`
    nothing is known of the device's rates: then the ratios mean something, and the baseline's seconds do not.
    """

    request: Request
    baseline: Rated
    rows: tuple[Row, ...]
    why: str | None = None
    is_absolute: bool = True

    @property
    def task(self) -> Task:
        return self.request.task

    def best(self, dimension: Dimension) -> Row | None:
        """The row that wins a dimension; None where none is better than the baseline, or nothing was measured."""
        better = self.better(dimension)
        return max(better, key=lambda row: row.ratio(dimension) or 0.0, default=None)

    def better(self, dimension: Dimension) -> tuple[Row, ...]:
        """The rows that are better than the baseline in a dimension."""
        return tuple(row for row in self.rows if (row.ratio(dimension) or 0.0) >= NOTABLE)

    def is_measurable(self, dimension: Dimension) -> bool:
        """Whether any row has a figure of a dimension."""
        return any(row.ratio(dimension) is not None for row in self.rows)


@dataclass(frozen=True)
class Comparison:
    """All tasks on one machine."""

    hardware: Hardware
    model: ModelShape
    tasks: tuple[TaskComparison, ...]
    notes: tuple[str, ...] = ()

    def good_throughout(self, dimension: Dimension) -> tuple[Optimization, ...]:
        """The optimizations that are better than the baseline in a dimension, whatever the task."""
        return _in_all({row.optimization for row in one.better(dimension)} for one in self.tasks)

    @property
    def best_throughout(self) -> Optimization | None:
        """The one optimization that wins every measurable dimension of every task; None where there is none."""
        winners = {
            None if best is None else best.optimization
            for one in self.tasks
            for dimension in Dimension
            if one.is_measurable(dimension)
            for best in [one.best(dimension)]
        }
        return winners.pop() if len(winners) == 1 else None


def _in_all(groups: Iterable[set[Optimization]]) -> tuple[Optimization, ...]:
    listed = list(groups)
    shared = set.intersection(*listed) if listed else set()
    return tuple(one for one in Optimization if one in shared)
