"""Which optimization wins which dimension, and what holds for all tasks."""

from __future__ import annotations

from autofit.domain.comparison import (
    Compared,
    Comparison,
    Dimension,
    DoesNotFit,
    Optimization,
    Row,
    TaskComparison,
)
from autofit.domain.efficiency import Cost, Rated
from autofit.domain.strategy import Strategy
from autofit.domain.task import Task
from tests.builders import GB, LLAMA_7B, make_hardware, make_request, make_rung

STRATEGY = Strategy(make_rung(0), 1, 1)
BASELINE = Rated(STRATEGY, Cost(1.0, 10 * GB))
ZERO_1, LORA, OFFLOAD = Optimization.ZERO_1, Optimization.LORA, Optimization.OFFLOAD


def row(optimization: Optimization, token_s: float, gb: float) -> Row:
    rated = Rated(STRATEGY, Cost(token_s, round(gb * GB)))
    return Row(optimization, Compared(rated, rated.over(BASELINE)))


def compared(*rows: Row, task: Task = Task.SFT) -> TaskComparison:
    return TaskComparison(make_request(task=task), BASELINE, rows)


def together(*tasks: TaskComparison) -> Comparison:
    return Comparison(make_hardware(2), LLAMA_7B, tasks)


def test_the_greatest_ratio_of_a_dimension_wins_it() -> None:
    found = compared(row(ZERO_1, 0.8, 5), row(LORA, 0.9, 4), Row(OFFLOAD, DoesNotFit(STRATEGY, "too large")))

    best = {dimension: found.best(dimension) for dimension in Dimension}

    assert best[Dimension.SPEED] == found.rows[0]
    assert best[Dimension.MEMORY] == found.rows[1]
    assert best[Dimension.ENERGY] is None
    assert not found.is_measurable(Dimension.ENERGY)


def test_nothing_wins_where_nothing_is_better_by_a_percent() -> None:
    found = compared(row(ZERO_1, 0.995, 10), row(LORA, 1.2, 4))

    assert found.best(Dimension.SPEED) is None
    assert found.is_measurable(Dimension.SPEED)


def test_what_is_good_throughout_is_better_in_every_task() -> None:
    found = together(
        compared(row(ZERO_1, 0.8, 9), row(LORA, 0.7, 4)),
        compared(row(ZERO_1, 0.9, 9), row(LORA, 1.1, 4), task=Task.DPO),
    )

    assert found.good_throughout(Dimension.SPEED) == (ZERO_1,)
    assert found.good_throughout(Dimension.MEMORY) == (ZERO_1, LORA)
    assert found.good_throughout(Dimension.ENERGY) == ()
    assert found.best_throughout is None


def test_one_that_wins_everything_is_best_throughout() -> None:
    found = together(
        compared(row(ZERO_1, 0.9, 9), row(LORA, 0.7, 4)),
        compared(row(ZERO_1, 0.9, 9), row(LORA, 0.8, 4), task=Task.DPO),
    )

    assert found.best_throughout is LORA


def test_a_dimension_that_nothing_wins_has_no_best_throughout() -> None:
    assert together(compared(row(ZERO_1, 0.8, 11), row(LORA, 0.9, 12))).best_throughout is None
