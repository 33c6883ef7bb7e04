"""The energy counter of a GPU as Zeus reads it (https://ml.energy/zeus), where that is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from autofit.worker.energy.counter import NotMeasurable

PACKAGE = "zeus"


def has_zeus() -> bool:
    return find_spec(PACKAGE) is not None


class ZeusCounter:
    """Zeus's own counter of one device, in millijoules; Zeus names devices by their place among the visible ones."""

    def __init__(self, place: int, name: str, *, is_whole_device: bool, devices: Any = None) -> None:
        """The device at `place`, which is `name` to all; `devices` are Zeus's, or what answers to their names.
        NotMeasurable for a GPU that does not count: Zeus would integrate its power in a process beside."""
        self.name, self.is_whole_device = name, is_whole_device
        self._place = place
        self._devices = devices or _zeus_devices()
        if not self._devices.supports_get_total_energy_consumption(place):
            raise NotMeasurable("the device has no energy counter")
        self.read_j()

    def read_j(self) -> float:
        from zeus.device.exception import ZeusBaseGPUError

        try:
            return int(self._devices.get_total_energy_consumption(self._place)) / 1000
        except ZeusBaseGPUError as error:
            raise NotMeasurable(str(error)) from None


def _zeus_devices() -> Any:
    from zeus.device import get_gpus
    from zeus.device.exception import ZeusBaseGPUError

    try:
        return get_gpus()
    except ZeusBaseGPUError as error:
        raise NotMeasurable(str(error)) from None
