"""What a trainer's log lines say of a training: its losses, and how fast it is."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from autofit.worker.training.step_meter import StepMeter

_WARM_UP_STEPS = 2


class TrainingLog(TrainerCallback):
    """Keeps losses, and tokens per second of all ranks, from one log line to the next.

    An interval in which something was saved or evaluated does not count; neither does one that ends in the warm-up.
    """

    def __init__(self) -> None:
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

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        self._warm_until_step = state.global_step + _WARM_UP_STEPS

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
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

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        self._is_disturbed = True

    def on_save(self, *_: Any, **__: Any) -> None:
        self._is_disturbed = True
