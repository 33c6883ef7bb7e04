"""What there is: nodes, their devices, the links between them, and the host around them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property


class DeviceKind(str, Enum):
    CUDA = "cuda"
    CPU = "cpu"


class Link(str, Enum):
    """The slowest path between two devices of a node."""

    NVLINK = "NVLink"
    PCIE = "PCIe"
    HOST = "host memory"  # CPU ranks
    UNKNOWN = "unknown link"


@dataclass(frozen=True)
class Rates:
    """What a device does per second at its peak, as its vendor states it; None where it has none of it."""

    bf16_flop_per_s: float | None  # dense matrix products, added up in fp32
    fp16_flop_per_s: float | None
    fp32_flop_per_s: float | None
    memory_bytes_per_s: float
    host_link_bytes_per_s: float  # one direction
    device_link_bytes_per_s: float | None = None  # NVLink to all peers together, one direction; None: the host link
    power_w: float | None = None


@dataclass(frozen=True)
class Device:
    """One accelerator (or one CPU rank) as a rank will see it."""

    kind: DeviceKind
    index: int  # NVML index of the physical GPU, or the rank's number on a CPU
    name: str  # as the vendor spells it
    sku: str | None  # a key of hardware/sku.json, None when unknown: never guessed
    uuid: str | None  # GPU-... or MIG-...
    memory_total_bytes: int
    memory_free_bytes: int  # now, with what other processes hold taken off
    compute_capability: tuple[int, int] | None = None
    other_process_count: int = 0
    is_mig: bool = False
    rates: Rates | None = None  # None when unknown: never guessed

    @property
    def visible_name(self) -> str:
        """The device's name in CUDA_VISIBLE_DEVICES, where CUDA_DEVICE_ORDER is PCI_BUS_ID.

        An index, which every library can read; only a MIG slice has none of its own.
        """
        return self.uuid if self.is_mig and self.uuid is not None else str(self.index)


AMPERE = (8, 0)
"""The first compute capability with bf16 tensor cores (CUDA C programming guide) and the least of FlashAttention-2."""


@dataclass(frozen=True)
class Host:
    """Memory and cores as the cgroup limits them, not as the machine advertises them."""

    name: str
    core_count: int
    memory_total_bytes: int
    memory_available_bytes: int
    disk_free_bytes: int  # where the run folder lies
    adam_parameters_per_s: float | None = None  # what DeepSpeed's host Adam updates, all cores; None when unknown
    is_memory_assumed: bool = False  # of a described machine of which nothing is said of it


@dataclass(frozen=True)
class Node:
    host: Host
    devices: tuple[Device, ...]
    link: Link = Link.UNKNOWN
    driver_version: str | None = None
    network_bytes_per_s: float | None = None  # to other nodes, one direction, all its devices together


@dataclass(frozen=True)
class Hardware:
    nodes: tuple[Node, ...]
    memory_limit_bytes: int | None = None  # --memory-limit, per device
    notes: tuple[str, ...] = ()  # what was left out or is odd, one sentence each

    def __post_init__(self) -> None:
        if not self.nodes or not self.nodes[0].devices:
            raise ValueError("a machine needs one device at least")

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(device for node in self.nodes for device in node.devices)

    @property
    def kind(self) -> DeviceKind:
        return self.nodes[0].devices[0].kind

    @cached_property
    def rank_count(self) -> int:
        return sum(len(node.devices) for node in self.nodes)

    @cached_property
    def device_memory_bytes(self) -> int:
        """What one rank may use: the smallest free memory, capped by --memory-limit."""
        free_bytes = min(device.memory_free_bytes for device in self.devices)
        return free_bytes if self.memory_limit_bytes is None else min(free_bytes, self.memory_limit_bytes)

    @property
    def host_available_bytes(self) -> int:
        """What all ranks of one node may use of its host's memory: that of the smallest one."""
        return min(node.host.memory_available_bytes for node in self.nodes)

    @property
    def is_host_memory_assumed(self) -> bool:
        return any(node.host.is_memory_assumed for node in self.nodes)

    @property
    def is_cpu(self) -> bool:
        return self.kind is DeviceKind.CPU

    @property
    def is_ampere(self) -> bool:
        """Whether all its devices are at least that; one whose capability is unknown is not."""
        return self.why_older_than(AMPERE) is None

    def why_older_than(self, capability: tuple[int, int]) -> str | None:
        """Which device has no such compute capability or a newer one, the end of a sentence; None where all have."""
        oldest = min(self.devices, key=lambda device: device.compute_capability or (0, 0))
        if oldest.compute_capability is None:
            return f"and that of {oldest.name} is unknown"
        if oldest.compute_capability >= capability:
            return None
        return f"{oldest.name} has {oldest.compute_capability[0]}.{oldest.compute_capability[1]}"

    @property
    def summary(self) -> str:
        """The devices in a few words: `8 × NVIDIA A100-SXM4-80GB`, each kind named once."""
        names = sorted({device.name for device in self.devices})
        return f"{self.rank_count} × {' and '.join(names)}"

    def is_same_machine(self, other: Hardware) -> bool:
        """Whether trials of one hold on the other: the same kinds of device, as many of them, under the same limit."""
        return (self.summary, self.kind, self.memory_limit_bytes) == (
            other.summary,
            other.kind,
            other.memory_limit_bytes,
        )
