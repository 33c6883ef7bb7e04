"""A node's physical cores, and which of them are a rank's: its own, on the side of the machine where its GPU is."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Core:
    """A physical core by its NUMA node and its hardware threads, as Linux numbers them."""

    numa_node: int
    threads: tuple[int, ...]


def read_cores(allowed: Collection[int] | None = None, root: Path = Path("/")) -> tuple[Core, ...]:
    """The cores that this process may run on, sorted, or those of the `allowed` hardware threads; all on node 0 where
    Linux tells of none. `root` is the file system under which sys is read."""
    threads = os.sched_getaffinity(0) if allowed is None else frozenset(allowed)
    nodes: dict[int, int] = {}
    for folder in (root / "sys/devices/system/node").glob("node[0-9]*"):
        nodes |= dict.fromkeys(_numbers(folder / "cpulist"), int(folder.name.removeprefix("node")))
    cores = set()
    for thread in threads:
        siblings = _numbers(root / f"sys/devices/system/cpu/cpu{thread}/topology/thread_siblings_list")
        cores.add(Core(nodes.get(thread, 0), tuple(sorted({thread, *siblings} & threads))))
    return tuple(sorted(cores))


def pci_numa_node(address: str, root: Path = Path("/")) -> int | None:
    """The NUMA node of the device at a PCI address (`0000:17:00.0`); None where Linux does not know."""
    try:
        node = int((root / "sys/bus/pci/devices" / address / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def cores_of_rank(rank: int, device_nodes: Sequence[int | None], cores: Sequence[Core]) -> tuple[Core, ...]:
    """The cores of a node's rank, none of which is another rank's; `device_nodes` are the NUMA nodes of the devices of
    all its ranks.

    As many for each rank on a NUMA node; where a device's is not known, or a NUMA node has fewer cores than ranks, in
    equal parts of all. None at all where there are fewer cores than ranks.
    """
    beside = [one for one, node in enumerate(device_nodes) if node == device_nodes[rank]]
    near = [core for core in cores if core.numa_node == device_nodes[rank]]
    if not _is_each_near(device_nodes, cores):
        beside, near = [*range(len(device_nodes))], sorted(cores)
    each, place = len(near) // len(beside), beside.index(rank)
    return tuple(near[place * each : (place + 1) * each])


def _is_each_near(device_nodes: Sequence[int | None], cores: Sequence[Core]) -> bool:
    """Whether every rank can have a core on the NUMA node of its device."""
    there = [core.numa_node for core in cores]
    return all(node is not None and there.count(node) >= device_nodes.count(node) for node in device_nodes)


def _numbers(path: Path) -> frozenset[int]:
    """The numbers of a list as Linux writes it (`0-3,8`); none where there is no such file."""
    try:
        parts = path.read_text().strip().split(",")
    except OSError:
        return frozenset()
    ends = [part.partition("-") for part in parts if part]
    return frozenset(number for first, _, last in ends for number in range(int(first), int(last or first) + 1))
