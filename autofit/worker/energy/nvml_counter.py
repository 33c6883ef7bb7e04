"""The energy counter of an NVIDIA GPU, Volta or newer."""

from __future__ import annotations

from typing import Any

from autofit.worker.energy.counter import NotMeasurable
from autofit.worker.rank.device import device_handle, import_vendor, is_mig


class NvmlCounter:
    """NVML's counter, in millijoules since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption)."""

    def __init__(self, name: str, vendor: Any = None) -> None:
        """The device is `name`, as CUDA_VISIBLE_DEVICES has it; `vendor` is the module `pynvml` or what answers to its
        names. NotMeasurable for a GPU that does not count."""
        self._vendor = vendor or import_vendor()
        try:
            self._vendor.nvmlInit()
            self._handle = _whole_device(self._vendor, name)
            self.name = str(self._vendor.nvmlDeviceGetUUID(self._handle))
            is_shared = len(self._vendor.nvmlDeviceGetComputeRunningProcesses(self._handle)) > 1
        except self._vendor.NVMLError as error:
            raise NotMeasurable(str(error)) from None
        self.is_slice = is_mig(name)
        self.is_whole_device = self.is_slice or is_shared
        self.read_j()

    def read_j(self) -> float:
        try:
            return int(self._vendor.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except self._vendor.NVMLError as error:
            raise NotMeasurable(str(error)) from None


def _whole_device(vendor: Any, name: str) -> Any:
    """The handle of the GPU: slices have no counters of their own."""
    handle = device_handle(vendor, name)
    return vendor.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle) if is_mig(name) else handle
