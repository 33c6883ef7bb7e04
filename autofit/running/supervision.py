"""How a full run is watched over: what it is given time for, and by which clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from autofit.hardware.cgroup import oom_kill_count
from autofit.running.stall_judge import LEAST_S


@dataclass(frozen=True)
class Supervision:
    """`clock` gives seconds, `oom_kill_count` counts the processes that the kernel has killed, None where nobody
    does."""

    grace_s: float = 90.0  # that the ranks have to save when a signal for us comes
    step_s: float | None = None  # of a step, as a probe measured it
    least_stall_s: float = LEAST_S  # no rank is taken to stand still before
    clock: Callable[[], float] = time.monotonic
    oom_kill_count: Callable[[], int | None] = oom_kill_count


USUAL = Supervision()
