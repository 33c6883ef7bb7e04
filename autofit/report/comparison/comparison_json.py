"""A comparison as one JSON object, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autofit.domain.codec import encode
from autofit.domain.comparison import (
    Compared,
    Comparison,
    Dimension,
    DoesNotFit,
    Failed,
    NotCompared,
    Row,
    TaskComparison,
)
from autofit.domain.efficiency import Rated


def comparisons_body(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The machines in the order in which they were named."""
    return {"machines": [_comparison_body(one) for one in comparisons]}


def _comparison_body(one: Comparison) -> dict[str, Any]:
    best = one.best_throughout
    return {
        "hardware": encode(one.hardware),
        "model": encode(one.model),
        "tasks": [_task_body(task) for task in one.tasks],
        "good_in_all": {dimension.value: encode(one.good_throughout(dimension)) for dimension in Dimension},
        "best_in_all": None if best is None else best.value,
        "notes": list(one.notes),
    }


def _task_body(one: TaskComparison) -> dict[str, Any]:
    best = {dimension.value: one.best(dimension) for dimension in Dimension}
    return {
        "task": one.task.value,
        "request": encode(one.request),
        "baseline": {**_rated_body(one.baseline, one), "fits": one.baseline.fits, "why": one.why},
        "rows": [_row_body(row, one) for row in one.rows],
        "best": {name: None if row is None else row.optimization.value for name, row in best.items()},
    }


def _row_body(row: Row, one: TaskComparison) -> dict[str, Any]:
    ratios = {f"{dimension.value}_up": row.ratio(dimension) for dimension in Dimension}
    return {"optimization": row.optimization.value, **ratios, **_standing_body(row, one)}


def _standing_body(row: Row, one: TaskComparison) -> dict[str, Any]:
    """How the row stands: `compared`, `does_not_fit`, `failed` or `not_compared`, with what is known of it."""
    match row.standing:
        case Compared(rated):
            return {"standing": "compared", **_rated_body(rated, one)}
        case DoesNotFit(strategy, why):
            return {"standing": "does_not_fit", "strategy": str(strategy), "why": why}
        case Failed(strategy, why):
            return {"standing": "failed", "strategy": str(strategy), "why": why}
        case NotCompared(why):
            return {"standing": "not_compared", "why": why}


def _rated_body(rated: Rated, one: TaskComparison) -> dict[str, Any]:
    """What a strategy takes; relative speeds are no seconds: null."""
    cost = rated.cost
    return {
        "strategy": str(rated.strategy),
        "micro_batch": rated.strategy.micro_batch,
        "tokens_per_s": 1 / cost.token_s if one.is_absolute else None,
        "peak_device_bytes": cost.peak_device_bytes,
        "token_j": cost.token_j,
        "is_measured": cost.is_measured,
    }
