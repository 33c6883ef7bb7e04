"""The thin edge to NVIDIA's management library: what it says as plain values, its errors translated here once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one MIG slice of a GPU, as NVML describes it."""

    index: int  # NVML's, in the order of the PCI bus; a slice has its parent's
    name: str
    uuid: str
    memory_total_bytes: int
    memory_free_bytes: int
    compute_capability: tuple[int, int] | None = None
    process_ids: tuple[int, ...] = ()  # of the host: in a container they are not ours to look up
    is_slice: bool = False
    is_in_mig_mode: bool = False
    counts_energy: bool = False  # of a slice it is unknown: its parent's counts
    slices: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Reading:
    """Everything that was asked of NVML in one go; empty on a machine without a driver."""

    driver_version: str | None = None
    gpus: tuple[Gpu, ...] = ()
    nvlink_pairs: frozenset[tuple[int, int]] | None = frozenset()  # indices, smaller first; None: NVML does not say
    problems: tuple[str, ...] = ()  # a GPU or driver that is there and does not answer, one sentence each


class Nvml(Protocol):
    """Whoever can say which GPUs there are. Never raises for a machine that has none."""

    def read(self) -> Reading: ...


class VendorNvml:
    """The real library, over the module `pynvml` or anything that answers to the same names."""

    def __init__(self, vendor: Any = None) -> None:
        self._vendor = vendor

    def read(self) -> Reading:
        vendor = self._vendor or _import_vendor()
        absent = (vendor.NVML_ERROR_LIBRARY_NOT_FOUND, vendor.NVML_ERROR_DRIVER_NOT_LOADED)
        try:
            with _session(vendor):
                return _read_all(vendor)
        except vendor.NVMLError as error:
            if error.value in absent:
                return Reading()
            return Reading(
                problems=(f"The NVIDIA driver does not answer ({error}): reload it or restart the machine.",)
            )


def _import_vendor() -> Any:
    import pynvml

    return pynvml


@contextmanager
def _session(vendor: Any) -> Iterator[None]:
    vendor.nvmlInit()
    try:
        yield
    finally:
        vendor.nvmlShutdown()


def _read_all(vendor: Any) -> Reading:
    gpus: list[Gpu] = []
    handles: dict[int, Any] = {}
    problems: list[str] = []
    for index in range(vendor.nvmlDeviceGetCount()):
        try:
            handle = vendor.nvmlDeviceGetHandleByIndex(index)
            gpus.append(_read_gpu(vendor, handle, index))
            handles[index] = handle
        except vendor.NVMLError as error:
            problems.append(f"GPU {index} does not answer ({error}) and is left out.")
    version = _optional(vendor, vendor.nvmlSystemGetDriverVersion, None)
    return Reading(version, tuple(gpus), _read_nvlink_pairs(vendor, handles), tuple(problems))


def _read_gpu(vendor: Any, handle: Any, index: int) -> Gpu:
    gpu = _read_one(vendor, handle, index)
    capability = _optional(vendor, lambda: tuple(vendor.nvmlDeviceGetCudaComputeCapability(handle)), None)
    counts = _optional(vendor, lambda: vendor.nvmlDeviceGetTotalEnergyConsumption(handle) >= 0, False)
    gpu = replace(gpu, compute_capability=capability, counts_energy=counts)
    mode, _pending = _optional(vendor, lambda: vendor.nvmlDeviceGetMigMode(handle), (vendor.NVML_DEVICE_MIG_DISABLE, 0))
    if mode != vendor.NVML_DEVICE_MIG_ENABLE:
        return gpu
    return replace(gpu, is_in_mig_mode=True, slices=tuple(_read_slices(vendor, handle, gpu)))


def _read_one(vendor: Any, handle: Any, index: int) -> Gpu:
    memory = vendor.nvmlDeviceGetMemoryInfo(handle)
    processes: list[Any] = _optional(vendor, lambda: vendor.nvmlDeviceGetComputeRunningProcesses(handle), [])
    return Gpu(
        index=index,
        name=vendor.nvmlDeviceGetName(handle),
        uuid=vendor.nvmlDeviceGetUUID(handle),
        memory_total_bytes=int(memory.total),
        memory_free_bytes=int(memory.free),
        process_ids=tuple(process.pid for process in processes),
    )


def _read_slices(vendor: Any, parent_handle: Any, parent: Gpu) -> Iterator[Gpu]:
    for number in range(vendor.nvmlDeviceGetMaxMigDeviceCount(parent_handle)):
        ask = partial(vendor.nvmlDeviceGetMigDeviceHandleByIndex, parent_handle, number)
        handle: Any = _optional(vendor, ask, None)
        if handle is not None:  # a parent has places for seven slices, most of them empty
            piece = _read_one(vendor, handle, parent.index)
            yield replace(piece, is_slice=True, compute_capability=parent.compute_capability)


def _read_nvlink_pairs(vendor: Any, handles: dict[int, Any]) -> frozenset[tuple[int, int]] | None:
    """Pairs that reach each other over NVLink, directly or through NVSwitch; None when the driver cannot tell."""
    nvlink = vendor.NVML_P2P_CAPS_INDEX_NVLINK
    pairs = set()
    for one, other in combinations(sorted(handles), 2):
        try:
            status = vendor.nvmlDeviceGetP2PStatus(handles[one], handles[other], nvlink)
        except vendor.NVMLError:
            return None
        if status == vendor.NVML_P2P_STATUS_OK:
            pairs.add((one, other))
    return frozenset(pairs)


def _optional(vendor: Any, query: Callable[[], T], default: T) -> T:
    """What `query` says, or `default` where this GPU or driver does not know the question."""
    try:
        return query()
    except vendor.NVMLError:
        return default
