"""Kinds of machines: what two of them must share for the figures of one to hold on the other."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.hardware import Device, DeviceKind, Hardware, Link, Node

from .serialization import digest
from .versions import Versions


@dataclass(frozen=True)
class NodeKind:
    """A kind of node; `host_memory_gib` is rounded: two machines of a kind differ by some megabytes."""

    device_names: tuple[str, ...]
    link: Link
    core_count: int
    host_memory_gib: int

    @staticmethod
    def of(node: Node) -> NodeKind:
        names = tuple(device.name for device in node.devices)
        return NodeKind(names, node.link, node.host.core_count, round(node.host.memory_total_bytes / 2**30))


@dataclass(frozen=True)
class MachineKind:
    kind: DeviceKind
    nodes: tuple[NodeKind, ...]
    memory_limit_bytes: int | None

    @staticmethod
    def of(hardware: Hardware) -> MachineKind:
        return MachineKind(
            hardware.kind, tuple(NodeKind.of(node) for node in hardware.nodes), hardware.memory_limit_bytes
        )


@dataclass(frozen=True)
class DeviceKey:
    """The kind of device, with versions, for which fitted constants hold."""

    kind: DeviceKind
    name: str  # as the vendor spells it
    versions: Versions

    @staticmethod
    def of(device: Device, versions: Versions) -> DeviceKey:
        return DeviceKey(device.kind, device.name, versions)

    @property
    def digest(self) -> str:
        return digest(self)
