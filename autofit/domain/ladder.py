"""The ordered rungs of the space for one request on one machine, each rung left out with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

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

    @property
    def leanest(self) -> Strategy:
        """The strategy with the least lower bound of device memory: the smallest micro-batch, unless a larger one ends
        accumulation or has a mask, with which another attention kernel runs."""
        return min(self.strategies, key=lambda strategy: self.estimate(strategy).memory.low_bytes)


@dataclass(frozen=True)
class LeftOut:
    """A rung that is not tried at all.

    `short_bytes` is set when the device cannot hold it even by the lower bound, `host_short_bytes` when the host cannot
    hold what it would offload.
    """

    rung: Rung
    reason: str
    short_bytes: int | None = None
    host_short_bytes: int | None = None


@dataclass(frozen=True)
class Ladder:
    device_memory_bytes: int
    steps: tuple[Step, ...]  # the best by prediction first
    left_out: tuple[LeftOut, ...] = ()

    def estimate(self, strategy: Strategy) -> Estimate:
        """The estimate of a strategy; ValueError when the ladder does not have it."""
        try:
            return self._estimates[strategy]
        except KeyError:
            raise ValueError(f"{strategy} is not on this ladder") from None

    def has(self, strategy: Strategy) -> bool:
        return strategy in self._estimates

    @cached_property
    def _estimates(self) -> Mapping[Strategy, Estimate]:
        pairs = (zip(step.strategies, step.estimates, strict=True) for step in self.steps)
        return {strategy: estimate for of_step in pairs for strategy, estimate in of_step}
