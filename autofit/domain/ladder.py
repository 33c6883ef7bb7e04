"""The ordered rungs of the space for one request on one machine, each rung left out with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from .estimate import Estimate
from .strategy import Rung, Strategy


@dataclass(frozen=True)
class Step:
    """One rung of the ladder: the micro-batches that divide the global batch, smallest first, and the estimates.

    `estimates[i]` belongs to `strategies[i]`.
    """

    rung: Rung
    strategies: tuple[Strategy, ...]
    estimates: tuple[Estimate, ...]

    def estimate(self, strategy: Strategy) -> Estimate:
        return self.estimates[self.strategies.index(strategy)]


@dataclass(frozen=True)
class LeftOut:
    """A rung that is not tried at all; `short_bytes` is set when it cannot fit even by the lower bound."""

    rung: Rung
    reason: str
    short_bytes: int | None = None


@dataclass(frozen=True)
class Ladder:
    device_memory_bytes: int
    steps: tuple[Step, ...]  # best predicted speed first
    left_out: tuple[LeftOut, ...] = ()
