"""The sentences of a comparison: which optimization wins which dimension, and what holds for all tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from autofit.domain.comparison import Comparison, Dimension, Optimization, Row, TaskComparison
from autofit.report.ratios import ratio_text

from .comparison_table import uncounted_text

_BETTER = {
    Dimension.SPEED: "faster than the baseline",
    Dimension.MEMORY: "leaner than the baseline",
    Dimension.ENERGY: "more frugal with energy than the baseline",
}


def winner_sentences(one: TaskComparison) -> Iterator[str]:
    """A sentence for each dimension: `LoRA wins speed, 1.31×.`"""
    for dimension in Dimension:
        best = one.best(dimension)
        if not one.is_measurable(dimension):
            yield f"{dimension.value.capitalize()} is {uncounted_text(one)}."
        elif best is None:
            yield f"Nothing is {_BETTER[dimension]}."
        else:
            yield f"{_opening(best.optimization)} wins {dimension.value}, {_ratio_text(best, dimension, one)}."


def shared_sentences(comparison: Comparison) -> Iterator[str]:
    """What is good in all tasks, a sentence for each dimension, and whether one optimization is best in everything."""
    for dimension in Dimension:
        if all(one.is_measurable(dimension) for one in comparison.tasks):
            yield _shared_text(comparison.good_throughout(dimension), dimension)
    best = comparison.best_throughout
    if best is None:
        yield "No optimization is best in all tasks and dimensions."
    else:
        yield f"{_opening(best)} is best in all tasks and dimensions."


def _ratio_text(best: Row, dimension: Dimension, one: TaskComparison) -> str:
    ratio = best.ratio(dimension)
    assert ratio is not None
    return ratio_text(ratio, is_measured=one.baseline.cost.is_measured)


def _shared_text(good: Sequence[Optimization], dimension: Dimension) -> str:
    if not good:
        return f"Nothing is {_BETTER[dimension]} in all tasks."
    names = _listed([_opening(good[0]), *(one.text for one in good[1:])])
    return f"{names} {'is' if len(good) == 1 else 'are'} {_BETTER[dimension]} in all tasks."


def _opening(one: Optimization) -> str:
    """Its name as a sentence begins."""
    return one.text[0].upper() + one.text[1:]


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
