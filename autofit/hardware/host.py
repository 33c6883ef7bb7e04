"""The machine around the devices: cores, memory and disk as this process may use them, and how fast its Adam is."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import psutil

from autofit.domain.hardware import Host

from . import cgroup


def detect_host(path: Path, root: Path = Path("/")) -> Host:
    """The host as its control groups limit it, with the free disk where `path` lies or will lie.

    `root` is the file system under which proc and sys are read.
    """
    memory = psutil.virtual_memory()
    limits = cgroup.memory_limits(root)
    return Host(
        name=platform.node(),
        core_count=_core_count(root),
        memory_total_bytes=min([memory.total, *(limit.limit_bytes for limit in limits)]),
        memory_available_bytes=min([memory.available, *(limit.left_bytes for limit in limits)]),
        disk_free_bytes=disk_free_bytes(path),
    )


def disk_free_bytes(path: Path) -> int:
    """Bytes that an unprivileged process can write at `path`, or at its nearest parent that exists."""
    path = path.absolute()
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(nearest).free


def cpu_name(root: Path = Path("/")) -> str:
    """The processor's name as Linux gives it, or else the kind of machine."""
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or platform.machine()


def _core_count(root: Path) -> int:
    """Whole cores: a quota of 2.5 cores runs two ranks well and a third one badly."""
    return max(1, int(min([_core_affinity_count(), *cgroup.core_limits(root)])))


def _core_affinity_count() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_PUBLISHED_PARAMETERS_PER_S = 4e9
"""The published rate: 1 billion parameters in 0.22 s, 2 in 0.51, 4 in 1.03, 8 in 2.41, 10 in 2.57 s, all cores of a
node (Ren et al., ZeRO-Offload, 2021, table 4)."""

_PUBLISHED_CORE_COUNT = 48
"""The cores of that machine: two Xeon Platinum 8168, those of the paper's DGX-2 nodes (section 6.1)."""


def host_adam_rate(core_count: int) -> float:
    """Parameters that all cores of a node update in a second.

    In proportion to the cores up to the published machine, no faster beyond it: there memory is the limit. Known error:
    ranks whose threads are not bound to cores were 1.3 times slower (DeepSpeed pull request 7474), and ranks that a
    launcher starts with OMP_NUM_THREADS=1 are slower still.
    """
    return _PUBLISHED_PARAMETERS_PER_S * min(1.0, core_count / _PUBLISHED_CORE_COUNT)
