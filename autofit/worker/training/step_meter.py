"""How long optimizer steps and their micro-batches take, and how many tokens are in them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from statistics import mean, stdev

import torch


@dataclass
class StepMeter:
    """Measures durations of micro-batches by their place in an optimizer step, and counts their tokens.

    A duration is from `begin`, or from the end before, to the next end. Who tells the ends, and whose tokens are added,
    is the caller's: a watch on an engine counts those of its rank, a trainer's log those of all ranks.
    """

    first_s: list[float] = field(default_factory=list)  # of several: makes the gradients
    middle_s: list[float] = field(default_factory=list)  # adds to them
    last_s: list[float] = field(default_factory=list)  # ends in the optimizer's step
    step_s: list[float] = field(default_factory=list)  # whole steps
    tokens: float = 0.0  # real ones
    micro_batch_count: int = 0
    period: int = 1  # whole steps after which they are alike again
    _step_s: list[float] = field(default_factory=list)  # of the step that goes on
    _ended: tuple[list[float], list[torch.Tensor | float]] = field(default_factory=lambda: ([], []))  # of the last
    _step_tokens: list[torch.Tensor | float] = field(default_factory=list)
    _marked_at_s: float = 0.0

    def begin(self) -> None:
        """Begins anew: what was done since the last end is in no duration."""
        self._mark()

    def add_tokens(self, count: torch.Tensor | float) -> None:
        """Adds tokens of the step that goes on; a count on a device is read when the step has ended."""
        self._step_tokens.append(count)

    def end_micro_step(self) -> None:
        """Ends a micro-batch that is not the last of its step."""
        marked_at_s = self._marked_at_s
        self._mark()
        self._step_s.append(self._marked_at_s - marked_at_s)

    def end_step(self, *, is_measured: bool) -> float:
        """Ends a step and gives how long it took (s); it counts where it is measured, and is forgotten otherwise."""
        self.end_micro_step()
        durations_s, self._ended = self._step_s, (self._step_s, self._step_tokens)
        self._step_s, self._step_tokens = [], []
        if is_measured:
            self.count_step()
        return sum(durations_s)

    def count_step(self) -> None:
        """Counts the step that has ended, of which nobody knew before that it is measured."""
        durations_s, tokens = self._ended
        self.first_s += durations_s[:-1][:1]
        self.middle_s += durations_s[1:-1]
        self.last_s += durations_s[-1:]
        self.step_s.append(sum(durations_s))
        self.tokens += float(sum(tokens))
        self.micro_batch_count += len(durations_s)

    @property
    def has_measured(self) -> bool:
        return bool(self.last_s)

    @property
    def error(self) -> float | None:
        """The relative standard error of the mean step, by whole periods; None where fewer than two were measured."""
        starts = range(0, len(self.step_s) - self.period + 1, self.period)
        alike_s = [sum(self.step_s[start : start + self.period]) for start in starts]
        if len(alike_s) < 2:
            return None
        return stdev(alike_s) / math.sqrt(len(alike_s)) / mean(alike_s)

    @property
    def tokens_per_s(self) -> float | None:
        """The speed over all that was measured; None where nothing was."""
        measured_s = sum(self.first_s) + sum(self.middle_s) + sum(self.last_s)
        return self.tokens / measured_s if measured_s > 0 else None

    def _mark(self) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self._marked_at_s = time.perf_counter()
