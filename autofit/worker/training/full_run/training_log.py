"""What a trainer's log lines say of a training: its losses, what its task tells beside them, and how fast it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from autofit.domain.metric import Metric, MetricCourse, MetricName
from autofit.worker.training.step_meter import StepMeter

_WARM_UP_STEPS = 2


class TrainingLog(TrainerCallback):
    """Keeps losses, the metrics of `told`, and tokens per second of all ranks, from one log line to the next.

    An interval in which something was saved or evaluated does not count; neither does one that ends in the warm-up.
    """

    def __init__(self, told: Sequence[MetricName] = ()) -> None:
        self._courses = {name: MetricCourse(name.text, None, None) for name in told}
        self._meter = StepMeter()
        self._tokens = 0.0  # of all steps up to the last line
        self._warm_until_step = 0
        self._is_disturbed = True  # the first line has none before it
        self.first_loss: float | None = None
        self.last_loss: float | None = None
        self.last_tokens_per_s: float | None = None

    @property
    def tokens_per_s(self) -> float | None:
        return self._meter.tokens_per_s

    @property
    def courses(self) -> tuple[MetricCourse, ...]:
        return tuple(self._courses.values())

    @property
    def last_metrics(self) -> tuple[Metric, ...]:
        """What the last line of a step told."""
        return tuple(Metric(course.text, course.last) for course in self.courses if course.last is not None)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        self._warm_until_step = state.global_step + _WARM_UP_STEPS

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        self._hear_metrics(logs)
        if "loss" not in logs or "num_tokens" not in logs:
            return
        self.last_loss = float(logs["loss"])
        self.first_loss = self.last_loss if self.first_loss is None else self.first_loss
        tokens, self._tokens = float(logs["num_tokens"]) - self._tokens, float(logs["num_tokens"])
        is_measured = not self._is_disturbed and state.global_step > self._warm_until_step
        self._is_disturbed = False
        self._meter.add_tokens(tokens)
        interval_s = self._meter.end_step(is_measured=is_measured)
        if is_measured:
            self.last_tokens_per_s = tokens / interval_s

    def _hear_metrics(self, logs: Mapping[str, Any]) -> None:
        for name, course in self._courses.items():
            if name.key in logs:
                value = float(logs[name.key])
                first = value if course.first is None else course.first
                self._courses[name] = replace(course, first=first, last=value)
            elif f"eval_{name.key}" in logs:
                self._courses[name] = replace(course, evaluated=float(logs[f"eval_{name.key}"]))

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        self._is_disturbed = True

    def on_save(self, *_: Any, **__: Any) -> None:
        self._is_disturbed = True
