"""Durations and tokens of the micro-batches of a script that somebody else wrote."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch


@dataclass
class MicroMeter:
    """A duration is from the end of one micro-batch to the end of the next: what the script does between counts."""

    first_s: list[float] = field(default_factory=list)  # of several: makes the gradients
    middle_s: list[float] = field(default_factory=list)  # adds to them
    last_s: list[float] = field(default_factory=list)  # ends in the optimizer's step
    tokens: float = 0.0  # real ones, of this rank
    micro_batch_count: int = 0
    _step_s: list[float] = field(default_factory=list)  # of the step that goes on
    _step_tokens: list[torch.Tensor | int] = field(default_factory=list)
    _marked_at_s: float = 0.0

    def begin(self) -> None:
        self._mark()

    def add_tokens(self, count: torch.Tensor | int) -> None:
        self._step_tokens.append(count)

    def end_micro_step(self) -> None:
        marked_at_s = self._marked_at_s
        self._mark()
        self._step_s.append(self._marked_at_s - marked_at_s)

    def end_step(self, *, is_measured: bool) -> float:
        """How long the whole step took (s)."""
        self.end_micro_step()
        durations_s, tokens = self._step_s, self._step_tokens
        self._step_s, self._step_tokens = [], []
        if is_measured:
            self.first_s += durations_s[:-1][:1]
            self.middle_s += durations_s[1:-1]
            self.last_s += durations_s[-1:]
            self.tokens += float(sum(tokens))
            self.micro_batch_count += len(durations_s)
        return sum(durations_s)

    def _mark(self) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self._marked_at_s = time.perf_counter()
