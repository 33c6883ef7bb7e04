"""The GPU of a rank: its name to CUDA, what the driver says of its memory, and what DeepSpeed is told of that."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def show_devices(names: Sequence[str]) -> None:
    """Shows devices to this process, before it touches CUDA. `names` are indices in the order of the PCI bus, as NVML
    counts, or UUIDs of MIG slices."""
    os.environ.update({"CUDA_DEVICE_ORDER": "PCI_BUS_ID", _VISIBLE: ",".join(names)})


def own_device_name() -> str:
    """The name of the device that LOCAL_RANK picks among the visible ones."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    names = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",")]
    return names[local_rank] if names != [""] else str(local_rank)


class DriverMemory:
    """What is taken of a device, by whomever. NVML is asked, which makes no CUDA context.

    torch's own question maps the device to an index, and a MIG slice has none.
    """

    def __init__(self, name: str, vendor: Any = None) -> None:
        """The device is `name`, as CUDA_VISIBLE_DEVICES has it; `vendor` is the module `pynvml` or what answers to its
        names."""
        self._vendor = vendor or import_vendor()
        self._vendor.nvmlInit()
        self._handle = device_handle(self._vendor, name)
        self._used_bytes = 0

    def used_bytes(self) -> int:
        """What is taken now, or was when the driver answered last: a rank whose GPU is lost has yet to say so."""
        with suppress(self._vendor.NVMLError):
            self._used_bytes = int(self._vendor.nvmlDeviceGetMemoryInfo(self._handle).used)
        return self._used_bytes


def device_handle(vendor: Any, name: str) -> Any:
    """NVML's handle of the device `name`, as CUDA_VISIBLE_DEVICES has it."""
    return vendor.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else vendor.nvmlDeviceGetHandleByUUID(name)


def is_mig(name: str) -> bool:
    """Whether a device is a MIG slice, by its name."""
    return name.startswith("MIG-")


def import_vendor() -> Any:
    """NVML as the package of NVIDIA has it."""
    import pynvml

    return pynvml


def override_deepspeed_memory(available_bytes: Callable[[], int]) -> None:
    """Has DeepSpeed hear from `available_bytes` how much of this process's device is free.

    Its own answer reads CUDA_VISIBLE_DEVICES as integers and knows nothing of a cap, and ZeRO-1 and 2 decide by it
    where they lay out the flat copy of the parameters (deepspeed/runtime/zero/stage_1_and_2.py).
    """
    from deepspeed.accelerator import get_accelerator

    get_accelerator().available_memory = lambda device_index=None: available_bytes()
