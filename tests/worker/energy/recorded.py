"""A clock, and energy counters that jump as recorded ones do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autofit.worker.energy.counter import NotMeasurable


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


def jumping_j(clock: Clock, *, power_w: float, period_s: float) -> Callable[[], float]:
    """What a counter of `power_w` says that is brought up to date every `period_s`."""
    return lambda: power_w * period_s * int(clock.now_s / period_s + 1e-9)


@dataclass
class RecordedCounter:
    says_j: Callable[[], float]
    name: str = "GPU-0"
    is_whole_device: bool = False
    is_gone: bool = False

    def read_j(self) -> float:
        if self.is_gone:
            raise NotMeasurable("the device is lost")
        return self.says_j()
