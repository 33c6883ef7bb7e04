"""How fast a training is, and its losses: told by the trainer, step by step."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


@dataclass
class StepMeter(TrainerCallback):
    """Durations of micro-batches and optimizer steps, and tokens per second between log lines.

    An interval in which something was saved or evaluated is left out; so are the first `warm_up_steps`. Where some
    steps alone are to be measured, `measured` has their numbers, from 1.
    """

    warm_up_steps: int = 2
    measured: frozenset[int] | None = None
    first_s: list[float] = field(default_factory=list)  # of several: makes the gradients
    middle_s: list[float] = field(default_factory=list)  # adds to them
    last_s: list[float] = field(default_factory=list)  # ends in the optimizer's step
    tokens: float = 0.0
    tokens_s: float = 0.0
    token_steps: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    last_tokens_per_s: float | None = None
    _is_first: bool = True
    _marked_at_s: float = 0.0
    _logged_at_s: float | None = None
    _logged_tokens: float = 0.0
    _measured_from_step: int = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        self._measured_from_step = state.global_step + self.warm_up_steps
        self._mark()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._is_first = True
        self._mark()

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        self._take(self.first_s if self._is_first else self.middle_s, state.global_step + 1)
        self._is_first = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        self._take(self.last_s, state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        if "loss" not in logs or "num_tokens" not in logs:
            return
        now_s, tokens = time.perf_counter(), float(logs["num_tokens"])
        self.last_loss = float(logs["loss"])
        self.first_loss = self.last_loss if self.first_loss is None else self.first_loss
        if self._logged_at_s is not None and self._is_measured(state.global_step):
            self.last_tokens_per_s = (tokens - self._logged_tokens) / (now_s - self._logged_at_s)
            self.tokens += tokens - self._logged_tokens
            self.token_steps += 1
            self.tokens_s += now_s - self._logged_at_s
        self._logged_at_s, self._logged_tokens = now_s, tokens

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        self._logged_at_s = None

    def on_save(self, *_: Any, **__: Any) -> None:
        self._logged_at_s = None

    @property
    def tokens_per_s(self) -> float | None:
        return self.tokens / self.tokens_s if self.tokens_s > 0 else None

    @property
    def tokens_per_step(self) -> float:
        """Real tokens of one logged step, all ranks."""
        return self.tokens / self.token_steps

    def _mark(self) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self._marked_at_s = time.perf_counter()

    def _is_measured(self, step: int) -> bool:
        return step > self._measured_from_step if self.measured is None else step in self.measured

    def _take(self, durations_s: list[float], step: int) -> None:
        marked_at_s = self._marked_at_s
        self._mark()
        if self._is_measured(step):
            durations_s.append(self._marked_at_s - marked_at_s)
