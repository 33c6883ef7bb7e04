"""The energy that a measured piece of a training took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Energy:
    """Joules for each real token, all ranks together, by the counters of their devices and of their hosts; None of
    what is not measurable there."""

    device_j_per_token: float | None
    host_j_per_token: float | None
    is_whole_device: bool = False  # ranks have slices of devices, or share them: the figure is that of whole ones
