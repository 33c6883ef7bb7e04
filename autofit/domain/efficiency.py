"""SpeedUp, MemoryUp and EnergyUp: how many times less a strategy takes than a baseline, of time, memory and energy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .strategy import Strategy


@dataclass(frozen=True)
class Cost:
    """What a strategy takes, measured or predicted."""

    token_s: float  # seconds a token, of all devices together
    peak_device_bytes: int
    token_j: float | None = None  # joules a token; None where nothing counts them
    is_measured: bool = True


@dataclass(frozen=True)
class Efficiency:
    """Baseline ÷ strategy (Chen et al., IPDPSW 2024); above 1 is better than the baseline."""

    speed_up: float
    memory_up: float
    energy_up: float | None = None  # None where one of the two was not measured

    @classmethod
    def of(cls, cost: Cost, baseline: Cost) -> Efficiency:
        energies = (baseline.token_j, cost.token_j)
        return cls(
            baseline.token_s / cost.token_s,
            baseline.peak_device_bytes / cost.peak_device_bytes,
            None if energies[0] is None or energies[1] is None else energies[0] / energies[1],
        )

    @property
    def product(self) -> float:
        """What `balanced` looks for the most of: the product of the ratios that are known."""
        return math.prod(ratio for ratio in (self.speed_up, self.memory_up, self.energy_up) if ratio is not None)


@dataclass(frozen=True)
class Rated:
    """A strategy with what it takes, and whether it fits, as measured or, where it was not measured, as predicted."""

    strategy: Strategy
    cost: Cost
    fits: bool = True

    def over(self, baseline: Rated) -> Efficiency:
        return Efficiency.of(self.cost, baseline.cost)

    def is_measured_over(self, baseline: Rated) -> bool:
        """Whether the ratios to `baseline` were measured: both of them were."""
        return self.cost.is_measured and baseline.cost.is_measured
