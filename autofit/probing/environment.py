"""The environment of what imports torch and DeepSpeed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from autofit.domain.hardware import DeviceKind

# On a CPU the rank's heap is the device. One arena, and every block of a megabyte or more given back at once: otherwise
# glibc keeps what is broken up, and a training of 24 steps grew 45 MB beyond its probe (13 MB with these).
CPU_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**20),
}


def worker_environment(kind: DeviceKind) -> dict[str, str]:
    """For the agent and the launcher: the kind of device is decided, and the tools beside this Python are found.

    Each rank is told its GPUs by itself. None are named here: at the name of a MIG slice torch counts GPUs with a call
    of CUDA's, after which the agent's forks could not use them any more.
    """
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment["DS_ACCELERATOR"] = kind.value
    environment["PYTHONUNBUFFERED"] = "1"
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if kind is DeviceKind.CPU:
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment.update(CPU_ALLOCATOR)
    return environment
