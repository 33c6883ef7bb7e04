"""Whether the energy of the devices here can be counted: a search for the least of it needs that."""

from __future__ import annotations

from pathlib import Path

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind, Hardware

from .nvml import Nvml, VendorNvml

RAPL_ZONES = Path("/sys/class/powercap")


def check_counted(hardware: Hardware, *, nvml: Nvml | None = None, zones: Path = RAPL_ZONES) -> None:
    """Checks that every device here counts its energy, a CPU rank's being that of its host; UsageError says what is
    missing."""
    lacking = _lacking_rapl(zones) if hardware.kind is DeviceKind.CPU else _lacking_gpus(hardware, nvml)
    if lacking is not None:
        raise UsageError(f"--optimize energy needs a counter, and {lacking}: use speed, memory or balanced.")


def _lacking_gpus(hardware: Hardware, nvml: Nvml | None) -> str | None:
    """NVML counts from Volta on, a whole GPU, of which a slice is taken to be a part."""
    counting = {gpu.index for gpu in (nvml or VendorNvml()).read().gpus if gpu.counts_energy}
    names = [f"GPU {device.index} ({device.name})" for device in hardware.devices if device.index not in counting]
    return f"the driver has none of {', '.join(names)}" if names else None


def _lacking_rapl(zones: Path) -> str | None:
    packages = [zone / "energy_uj" for zone in sorted(zones.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    if not packages:
        return f"there is none of this host's processors in {zones} (RAPL)"
    try:
        for path in packages:
            path.read_text()
    except OSError as error:
        return f"{path} (RAPL) cannot be read ({error.strerror}; sudo chmod a+r it)"
    return None
