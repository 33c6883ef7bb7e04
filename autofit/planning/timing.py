"""How the speed of a rung grows with its micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autofit.domain.outcome import Measured


@dataclass(frozen=True)
class Timing:
    """Seconds per token = `token_s` + `row_s` / micro-batch.

    A step is G/(b·W) micro-steps of t0 + t1·b and one update: divided by its tokens, everything but t0 is constant
    while the global batch G is. Known error: padding grows with the micro-batch too, and kernels fill up unevenly.
    """

    token_s: float
    row_s: float

    @staticmethod
    def of(points: Mapping[int, Measured]) -> Timing:
        """Through the smallest and the largest of two or more points."""
        low, high = min(points), max(points)
        assert low < high, "two micro-batches are needed"
        slow, fast = 1 / points[low].tokens_per_s, 1 / points[high].tokens_per_s
        row_s = (slow - fast) / (1 / low - 1 / high)
        # Noise may promise more than overhead alone could give: then all of it is overhead.
        row_s = min(row_s, fast * high)
        return Timing(fast - row_s / high, row_s)

    def tokens_per_s(self, micro_batch: int) -> float:
        return 1 / (self.token_s + self.row_s / micro_batch)
