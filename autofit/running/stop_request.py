"""What a full run does about a signal for us: it saves first, as long as the grace lasts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from enum import Enum

from autofit.domain.ending import signal_name
from autofit.domain.run_end import Preempted, Unsaved
from autofit.domain.units import brief_seconds
from autofit.process.signals import Terminated

_ENDING_S = 10.0  # of the grace, for putting away what could not save in time
_REPEAT_S = 0.5  # a signal that comes twice within this time is one: a terminal's, passed on by a wrapper as well


class TrainingPreempted(Terminated):
    """A signal ended the full run; `end` says what is kept of it."""

    def __init__(self, end: Preempted | Unsaved) -> None:
        super().__init__(end.signal)
        self.end = end


class Demand(Enum):
    """What is to be done about a signal."""

    NOTHING = "nothing"
    SAVE = "save"  # and end
    END = "end"  # at once


class StopRequest:
    """The signals that came, and until when the ranks may save. `clock` gives seconds."""

    def __init__(self, grace_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.grace_s = grace_s
        self.signal: int | None = None  # the first
        self._clock = clock
        self._heard_at_s = 0.0

    def hear(self, number: int, *, can_save: bool) -> Demand:
        """What this signal asks for. The first has the ranks save where there is a step to save; after it only Ctrl-C
        ends them at once: schedulers send theirs twice."""
        if self.signal is None:
            self.signal, self._heard_at_s = number, self._clock()
            return Demand.SAVE if can_save else Demand.END
        is_repeated = number == self.signal and self._clock() - self._heard_at_s < _REPEAT_S
        return Demand.END if number == signal.SIGINT and not is_repeated else Demand.NOTHING

    @property
    def text(self) -> str:
        """What is said while the ranks save."""
        assert self.signal is not None
        again = "Ctrl-C again" if self.signal == signal.SIGINT else "Ctrl-C"
        name, grace = signal_name(self.signal), brief_seconds(self.grace_s)
        return f"{name}: saving after this step, within {grace}, then ending; {again} ends it at once"

    @property
    def is_over(self) -> bool:
        """Whether the grace is, but for what it takes to end the ranks."""
        ending_s = min(_ENDING_S, self.grace_s / 4)
        return self.signal is not None and self._clock() - self._heard_at_s >= self.grace_s - ending_s
