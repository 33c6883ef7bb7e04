"""A rank's own cores, where its optimizer runs on the host: else the threads of all ranks share them all.

DeepSpeed's Adam for the host runs in OpenMP's threads (`omp parallel for` in ops/csrc/adam/cpu_adam_impl.cpp), as many
as the process may use: on 2 sockets with 8 GPUs 8 times as many as there are cores, which move about between the
sockets. DeepSpeed's launcher binds ranks with `--bind_cores_to_rank`, which needs numactl and looks at no GPU's place.
"""

from __future__ import annotations

import os

import torch

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.offload import Offload
from autofit.probing.protocol import Job
from autofit.process.cores import cores_of_rank, pci_numa_node, read_cores


def bind_cores(job: Job) -> None:
    """Binds this process, before it has threads, to its cores, if its optimizer is offloaded. Who set OMP_NUM_THREADS
    has decided; a rehearsal stands for ranks of another machine."""
    is_asked = job.strategy.rung.offload is not Offload.NONE and job.kind is DeviceKind.CUDA
    if not is_asked or job.is_rehearsal or "OMP_NUM_THREADS" in os.environ:
        return
    local_count = int(os.environ.get("LOCAL_SIZE", job.rank_count))
    nodes = [_numa_node(index) for index in range(local_count)]
    own = cores_of_rank(int(os.environ["LOCAL_RANK"]), nodes, read_cores())
    if own:
        take_cores([core.threads for core in own])


def take_cores(own: list[tuple[int, ...]]) -> None:
    """Keeps this process to cores, each with its hardware threads: one thread of OpenMP's for each."""
    os.sched_setaffinity(0, [thread for threads in own for thread in threads])
    os.environ["OMP_NUM_THREADS"] = str(len(own))
    torch.set_num_threads(len(own))


def _numa_node(index: int) -> int | None:
    """The NUMA node of the visible device; torch tells of its PCI address from 2.8 on."""
    properties = torch.cuda.get_device_properties(index)
    parts = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    known = [part for part in parts if part is not None]
    return pci_numa_node("{:04x}:{:02x}:{:02x}.0".format(*known)) if len(known) == len(parts) else None
