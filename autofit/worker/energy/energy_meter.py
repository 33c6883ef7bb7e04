"""What a rank takes of energy from one moment to another, of its device and of its host."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from autofit.planning.energy_window import is_trusted
from autofit.probing.protocol import Counted, RankEnergy
from autofit.worker.energy.counter import EnergyCounter, NotMeasurable, UpdatePeriod
from autofit.worker.energy.nvml_counter import NvmlCounter
from autofit.worker.energy.rapl_counter import RaplCounter
from autofit.worker.energy.zeus_counter import ZeusCounter, has_zeus
from autofit.worker.rank.device import own_device_name


class EnergyMeter:
    """Reads its counters at `begin` and at `end`; None stands for one that is not there."""

    def __init__(
        self,
        device: EnergyCounter | None,
        host: EnergyCounter | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._windows = (_Window(device), _Window(host))
        self._began_at_s = clock()

    def begin(self) -> None:
        """Begins the window, in the place of one that was begun before."""
        for window in self._windows:
            window.begin()
        self._began_at_s = self._clock()

    def look(self) -> None:
        """Reads the counters, which begin anew after a while."""
        for window in self._windows:
            window.look()

    def end(self, tokens: float) -> RankEnergy:
        """What was counted since `begin`, in which this rank learned from `tokens` real ones."""
        window_s = self._clock() - self._began_at_s
        device, host = (window.end(window_s) for window in self._windows)
        return RankEnergy(tokens, device, host)


class _Window:
    """The window of one counter. How often that is brought up to date is measured until the window ends."""

    def __init__(self, counter: EnergyCounter | None) -> None:
        self._counter = counter
        self._period = None if counter is None else UpdatePeriod(counter)
        self._first_j: float | None = None

    def begin(self) -> None:
        self._first_j = self._read_j()

    def look(self) -> None:
        self._read_j()

    def end(self, window_s: float) -> Counted | None:
        if self._counter is None or self._period is None:
            return None
        last_j, period_s = self._read_j(), self._period.seconds()
        if last_j is None or self._first_j is None or not is_trusted(window_s, period_s):
            return None
        return Counted(self._counter.name, last_j - self._first_j, self._counter.is_whole_device)

    def _read_j(self) -> float | None:
        try:
            return None if self._counter is None else self._counter.read_j()
        except NotMeasurable:
            return None


def energy_meter(kind: str) -> EnergyMeter:
    """The meter of this rank on a `cuda` or `cpu` device, with the counters that there are.

    A CPU rank's device is the host."""
    return EnergyMeter(_found(_device_counter) if kind == "cuda" else None, _found(RaplCounter))


def _found(make: Callable[[], EnergyCounter]) -> EnergyCounter | None:
    try:
        return make()
    except NotMeasurable:
        return None


def _device_counter() -> EnergyCounter:
    """Zeus's where it is installed; it knows no slices."""
    own = NvmlCounter(own_device_name())
    if not has_zeus() or own.is_slice:
        return own
    place = int(os.environ.get("LOCAL_RANK", "0"))
    return ZeusCounter(place, own.name, is_whole_device=own.is_whole_device)
