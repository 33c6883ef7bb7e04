"""A scripted `pynvml`: answers as real machines gave them, errors as the real module raises them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

MIB = 2**20


@dataclass
class FakeGpu:
    name: str
    uuid: str
    total_mib: int
    used_mib: int = 500
    capability: tuple[int, int] = (8, 0)
    pids: list[int] = field(default_factory=list)
    mig: bool | None = None  # None: too old to know the question
    slices: list[FakeGpu] = field(default_factory=list)
    is_lost: bool = False
    energy_mj: int | None = 0  # since the driver was loaded; None: before Volta


class FakeNvml:
    """Answers to the names of `pynvml` that autofit uses; constants and errors are the real ones.

    `nvlink` names the pairs whose peer-to-peer status over NVLink is OK; None: the driver does not support asking.
    """

    def __init__(
        self,
        gpus: list[FakeGpu] | None = None,
        nvlink: set[tuple[int, int]] | None = frozenset(),  # type: ignore[assignment]
        driver: str = "535.129.03",
        init_error: int | None = None,
    ) -> None:
        self.gpus = gpus or []
        self.nvlink = nvlink
        self.driver = driver
        self.init_error = init_error
        self.is_open = False

    def __getattr__(self, name: str) -> Any:
        if name == "NVMLError" or name.startswith("NVML_"):
            return getattr(pynvml, name)
        raise AttributeError(name)

    def nvmlInit(self) -> None:
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.driver

    def nvmlDeviceGetCount(self) -> int:
        assert self.is_open, "NVML must be initialised before it is asked"
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if self.gpus[index].is_lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        for gpu in (piece for whole in self.gpus for piece in (whole, *whole.slices)):
            if gpu.uuid == uuid:
                return gpu
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str:
        return handle.name

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        return handle.uuid

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu) -> SimpleNamespace:
        if handle.is_lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        total, used = handle.total_mib * MIB, handle.used_mib * MIB
        return SimpleNamespace(total=total, used=used, free=total - used)

    def nvmlDeviceGetCudaComputeCapability(self, handle: FakeGpu) -> list[int]:
        return list(handle.capability)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: FakeGpu) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in handle.pids]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: FakeGpu) -> int:
        if handle.is_lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if handle.energy_mj is None or all(handle is not gpu for gpu in self.gpus):  # slices have none
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return handle.energy_mj

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: FakeGpu) -> FakeGpu:
        return next(gpu for gpu in self.gpus if any(piece is handle for piece in gpu.slices))

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        if handle.mig is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(handle.mig), int(handle.mig)]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: FakeGpu) -> int:
        return 7 if handle.mig else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: FakeGpu, index: int) -> FakeGpu:
        if index >= len(handle.slices):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return handle.slices[index]

    def nvmlDeviceGetP2PStatus(self, one: FakeGpu, other: FakeGpu, caps: int) -> int:
        assert caps == pynvml.NVML_P2P_CAPS_INDEX_NVLINK
        if self.nvlink is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        pair = tuple(sorted((self.gpus.index(one), self.gpus.index(other))))
        return pynvml.NVML_P2P_STATUS_OK if pair in self.nvlink else pynvml.NVML_P2P_STATUS_NOT_SUPPORTED


def a100_nvswitch() -> FakeNvml:
    gpus = [FakeGpu("NVIDIA A100-SXM4-80GB", f"GPU-a{i}000000-1111-2222-3333-444444444444", 81920) for i in range(8)]
    return FakeNvml(gpus, {(i, j) for i in range(8) for j in range(i + 1, 8)})


def v100_cube_mesh() -> FakeNvml:
    """Two quads fully linked inside, and each GPU linked to its twin in the other: not every pair has a link."""
    gpus = [
        FakeGpu("Tesla V100-SXM2-32GB", f"GPU-b{i}000000-1111-2222-3333-444444444444", 32768, 0, (7, 0))
        for i in range(8)
    ]
    quads = {(i, j) for start in (0, 4) for i in range(start, start + 4) for j in range(i + 1, start + 4)}
    return FakeNvml(gpus, quads | {(i, i + 4) for i in range(4)}, driver="525.105.17")


def rtx3090_pcie() -> FakeNvml:
    gpus = [
        FakeGpu("NVIDIA GeForce RTX 3090", f"GPU-c{i}000000-1111-2222-3333-444444444444", 24576, 350, (8, 6))
        for i in range(4)
    ]
    return FakeNvml(gpus)


def h200() -> FakeNvml:
    gpu = FakeGpu("NVIDIA H200", "GPU-d0000000-1111-2222-3333-444444444444", 143771, 600, (9, 0), mig=False)
    return FakeNvml([gpu], driver="570.86.15")


def a100_mig(slice_count: int = 2) -> FakeNvml:
    slices = [
        FakeGpu("NVIDIA A100-SXM4-80GB MIG 3g.40gb", f"MIG-e{i}000000-1111-2222-3333-444444444444", 40192, 37)
        for i in range(slice_count)
    ]
    uuid = "GPU-e9000000-1111-2222-3333-444444444444"
    return FakeNvml([FakeGpu("NVIDIA A100-SXM4-80GB", uuid, 81920, mig=True, slices=slices)])


def no_driver() -> FakeNvml:
    return FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
