"""What the study found of three phases of training, held against a comparison's figures.

Chen et al., IPDPSW 2024: facebook/opt-350m through DeepSpeed-Chat's three steps (supervised tuning, reward model, PPO),
ZeRO-1, 2, 3, gradient checkpointing and LoRA one at a time. It had no offload, so that has no say here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from autofit.domain.comparison import NOTABLE, Comparison, Dimension, Optimization, Row, TaskComparison
from autofit.domain.task import Task

MUCH = 1.1
"""From here on an optimization saves much energy; the study names no bound."""

FIRST_STEPS = (Task.SFT, Task.REWARD)


class Verdict(str, Enum):
    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNTOLD = "untold"  # its figures are not there


@dataclass(frozen=True)
class Finding:
    """What the study says, and the figures here that decide whether it is so: one line for each task and machine."""

    text: str
    verdict: Verdict
    figures: tuple[str, ...]


def findings(comparisons: Sequence[Comparison]) -> tuple[Finding, ...]:
    """The study's four findings, the third in its two halves; all comparisons were measured, or all predicted."""
    of_study = [_without_offload(one) for one in comparisons]
    zero_1, checkpointing = Optimization.ZERO_1, Optimization.CHECKPOINTING
    return (
        _no_best(of_study),
        _in_every("ZeRO-1 is good for speed, whatever the hardware", of_study, zero_1, Dimension.SPEED, tuple(Task)),
        _in_every(
            "checkpointing is good for memory in the first two steps",
            of_study, checkpointing, Dimension.MEMORY, FIRST_STEPS,
            wanted=FIRST_STEPS,
        ),
        _energy("checkpointing is worst for energy", of_study, _is_checkpointing_worst),
        _energy("nothing saves much energy", of_study, _saves_little),
    )  # fmt: skip


def _without_offload(comparison: Comparison) -> Comparison:
    tasks = (
        replace(one, rows=tuple(row for row in one.rows if row.optimization is not Optimization.OFFLOAD))
        for one in comparison.tasks
    )
    return replace(comparison, tasks=tuple(tasks))


def _no_best(comparisons: Sequence[Comparison]) -> Finding:
    best = [comparison.best_throughout for comparison in comparisons if len(comparison.tasks) > 1]
    verdict = _verdict((one is None for one in best), is_whole=len(best) > 0)
    figures = tuple(
        f"{_place(comparison, one)}: {', '.join(_winners(one))}"
        for comparison in comparisons
        for one in comparison.tasks
    )
    return Finding("no optimization is best in all phases and dimensions", verdict, figures)


def _winners(one: TaskComparison) -> Iterator[str]:
    for dimension in Dimension:
        if one.is_measurable(dimension):
            best = one.best(dimension)
            yield f"{dimension.value} {'none' if best is None else best.optimization.value}"


def _in_every(
    text: str,
    comparisons: Sequence[Comparison],
    optimization: Optimization,
    dimension: Dimension,
    tasks: Sequence[Task],
    wanted: Sequence[Task] = (),
) -> Finding:
    """Whether one optimization is better than the baseline on all machines, in all of `tasks` that are there; the
    `wanted` ones must be."""
    found = [
        (_place(comparison, one), _ratio(one, optimization, dimension))
        for comparison in comparisons
        for one in comparison.tasks
        if one.task in tasks
    ]
    known = [(place, ratio) for place, ratio in found if ratio is not None]
    seen = {one.task for comparison in comparisons for one in comparison.tasks}
    is_whole = len(known) == len(found) > 0 and set(wanted) <= seen
    verdict = _verdict((ratio >= NOTABLE for _, ratio in known), is_whole=is_whole)
    return Finding(text, verdict, tuple(f"{place}: {ratio:.3f}" for place, ratio in known))


def _energy(text: str, comparisons: Sequence[Comparison], holds: Callable[[TaskComparison], bool]) -> Finding:
    known = [
        (comparison, one)
        for comparison in comparisons
        for one in comparison.tasks
        if one.is_measurable(Dimension.ENERGY)
    ]
    count = sum(len(comparison.tasks) for comparison in comparisons)
    verdict = _verdict((holds(one) for _, one in known), is_whole=len(known) == count > 0)
    return Finding(text, verdict, tuple(f"{_place(*pair)}: {', '.join(_energies(pair[1]))}" for pair in known))


def _verdict(holds: Iterable[bool], *, is_whole: bool) -> Verdict:
    """One counterexample decides; agreement takes all figures."""
    if not all(holds):
        return Verdict.DISAGREES
    return Verdict.AGREES if is_whole else Verdict.UNTOLD


def _is_checkpointing_worst(one: TaskComparison) -> bool:
    rows = [row for row in one.rows if row.ratio(Dimension.ENERGY) is not None]
    return min(rows, key=_energy_up).optimization is Optimization.CHECKPOINTING


def _saves_little(one: TaskComparison) -> bool:
    return all(_energy_up(row) < MUCH for row in one.rows if row.ratio(Dimension.ENERGY) is not None)


def _energy_up(row: Row) -> float:
    ratio = row.ratio(Dimension.ENERGY)
    assert ratio is not None
    return ratio


def _energies(one: TaskComparison) -> Iterator[str]:
    for row in one.rows:
        if row.ratio(Dimension.ENERGY) is not None:
            yield f"{row.optimization.value} {_energy_up(row):.3f}"


def _ratio(one: TaskComparison, optimization: Optimization, dimension: Dimension) -> float | None:
    return next(row.ratio(dimension) for row in one.rows if row.optimization is optimization)


def _place(comparison: Comparison, one: TaskComparison) -> str:
    return f"{one.task.value} on {comparison.hardware.summary}"
