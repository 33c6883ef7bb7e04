"""How far predictions err, in few figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def figures(errors: Sequence[float]) -> dict[str, object]:
    """Median and 95th percentile of the errors without their sign, the lowest and the highest with it; in per cent."""
    sizes = sorted(abs(error) for error in errors)
    return {
        "case_count": len(sizes),
        "median_percent": percent(statistics.median(sizes)),
        "p95_percent": percent(sizes[max(0, -(-95 * len(sizes) // 100) - 1)]),
        "lowest_percent": percent(min(errors)),
        "highest_percent": percent(max(errors)),
    }


def percent(share: float) -> float:
    return round(100 * share, 2)
