"""What a task's trainer tells beside the loss, such as how often the better answer is found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricName:
    key: str  # in the trainer's log; behind "eval_" where it is of an evaluation
    text: str  # as people read it


@dataclass(frozen=True)
class Metric:
    text: str
    value: float | None  # None: not finite


@dataclass(frozen=True)
class MetricCourse:
    """A metric from the first step that was told to the last, and of the evaluation of the model that was saved."""

    text: str
    first: float | None
    last: float | None
    evaluated: float | None = None  # None: nothing was evaluated
