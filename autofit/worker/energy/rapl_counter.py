"""The energy counter of a host's processors and memory, where the kernel lets this user read it."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from autofit.worker.energy.counter import NotMeasurable

ZONES = Path("/sys/class/powercap")
_MEMORY = "dram"  # lies beside its package's own, the other zones of a package within it


class RaplCounter:
    """The sum of the packages' and their memories' RAPL counters (Linux, power/powercap/powercap.rst).

    A counter begins anew after `max_energy_range_uj`, which a loaded package reaches in some minutes to an hour: read
    it more often than that.
    """

    is_whole_device = True  # all that the host does

    def __init__(self, zones: Path = ZONES) -> None:
        """NotMeasurable where there is no zone, or only the superuser may read it."""
        self.name = socket.gethostname()
        self._zones = [_Zone(folder) for folder in sorted(zones.glob("intel-rapl:*")) if _counts(folder)]
        if not self._zones:
            raise NotMeasurable(f"there is no RAPL counter in {zones}")
        self.read_j()

    def read_j(self) -> float:
        return sum(zone.read_uj() for zone in self._zones) / 1e6


def _counts(folder: Path) -> bool:
    is_package = folder.name.count(":") == 1
    try:
        return is_package or (folder / "name").read_text().strip() == _MEMORY
    except OSError as error:
        raise NotMeasurable(f"{folder}: {error.strerror}") from None


@dataclass
class _Zone:
    folder: Path
    _last_uj: int = 0
    _rounds_uj: int = 0  # of whole ranges before this one

    def read_uj(self) -> int:
        try:
            now_uj = int((self.folder / "energy_uj").read_text())
            if now_uj < self._last_uj:
                self._rounds_uj += int((self.folder / "max_energy_range_uj").read_text())
        except OSError as error:
            raise NotMeasurable(f"{self.folder}: {error.strerror}") from None
        self._last_uj = now_uj
        return self._rounds_uj + now_uj
