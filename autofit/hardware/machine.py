"""This machine as `Hardware`: its GPUs, or CPU ranks where it has none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autofit.domain.errors import UsageError
from autofit.domain.hardware import Device, DeviceKind, Hardware, Host, Link, Node
from autofit.domain.units import format_bytes

from .devices import link_between, notes_on, to_device
from .host import cpu_name, detect_host, host_adam_rate
from .nvml import Nvml, Reading, VendorNvml
from .visible import Selection, select_visible

_DEFAULT_CPU_RANKS = 2


def detect_here(
    disk_path: Path,
    *,
    ranks: int | None = None,
    memory_limit_bytes: int | None = None,
    slots: Sequence[int] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Hardware:
    """This machine as `environment` shows it, and as far as `ranks` and `memory_limit_bytes` (of each device) use it.

    `disk_path` is where a run would write. `slots` are the GPUs that DeepSpeed's launcher gives to a job, in place of
    those of CUDA_VISIBLE_DEVICES. UsageError as `detect`.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES") if slots is None else ",".join(map(str, slots))
    # A rank's DeepSpeed reads this first (accelerator/real_accelerator.py of 0.19.8), so GPUs are not used then.
    is_told_cpu = environment.get("DS_ACCELERATOR") == DeviceKind.CPU.value
    return detect(
        ranks=ranks,
        memory_limit_bytes=memory_limit_bytes,
        visible_devices="" if is_told_cpu else visible,
        disk_path=disk_path,
    )


def detect(
    *,
    ranks: int | None,
    memory_limit_bytes: int | None,
    visible_devices: str | None,
    disk_path: Path,
    nvml: Nvml | None = None,
    root: Path = Path("/"),
) -> Hardware:
    """One node with a device for each rank: the first `ranks` visible GPUs (None: all), or else CPU ranks.

    `visible_devices` is the value of CUDA_VISIBLE_DEVICES, None when it is not set. UsageError when there are fewer
    GPUs than ranks, or when CUDA_VISIBLE_DEVICES makes no sense here.
    """
    if ranks is not None and ranks < 1:
        raise UsageError(f"--ranks {ranks} leaves nothing to train on: ask for one rank at least.")
    host = detect_host(disk_path, root)
    reading = (nvml or VendorNvml()).read()
    selection = select_visible(reading.gpus, visible_devices)
    if selection.gpus:
        node, notes = _gpu_node(host, reading, selection, ranks)
    else:
        node = _cpu_node(host, cpu_name(root), ranks or min(_DEFAULT_CPU_RANKS, host.core_count))
        notes = (_cpu_note(node, reading), *_crowding_notes(node))
    notes = (*reading.problems, *selection.notes, *notes)
    return Hardware((node,), memory_limit_bytes, (*notes, *_limit_notes(node, memory_limit_bytes)))


def _gpu_node(host: Host, reading: Reading, selection: Selection, ranks: int | None) -> tuple[Node, tuple[str, ...]]:
    count = len(selection.gpus)
    if ranks is not None and ranks > count:
        raise UsageError(_too_many_ranks(ranks, selection, len(reading.gpus)))
    devices = tuple(to_device(gpu, os.getpid()) for gpu in selection.gpus[:ranks])
    link = link_between(devices, reading.nvlink_pairs)
    host = replace(host, adam_parameters_per_s=host_adam_rate(host.core_count))
    return Node(host, devices, link, reading.driver_version), notes_on(devices)


def _too_many_ranks(ranks: int, selection: Selection, gpu_count: int) -> str:
    count = len(selection.gpus)
    here = "1 MIG slice" if selection.gpus[0].is_slice else f"{count} GPU{'s' if count > 1 else ''}"
    is_hidden = not selection.gpus[0].is_slice and count < gpu_count
    hidden = f", or show more of the {gpu_count} GPUs with CUDA_VISIBLE_DEVICES" if is_hidden else ""
    return f"--ranks {ranks} needs as many GPUs and there is use for {here} only: ask for {count} at most{hidden}."


def _cpu_node(host: Host, name: str, ranks: int) -> Node:
    devices = tuple(
        Device(
            kind=DeviceKind.CPU,
            index=rank,
            name=name,
            sku=None,
            uuid=None,
            memory_total_bytes=host.memory_total_bytes // ranks,
            memory_free_bytes=host.memory_available_bytes // ranks,
        )
        for rank in range(ranks)
    )
    return Node(host, devices, Link.HOST)


def _cpu_note(node: Node, reading: Reading) -> str:
    count = len(node.devices)
    why = f"None of the {len(reading.gpus)} GPUs here can be used" if reading.gpus else "No NVIDIA GPU was found"
    stand = "s stand" if count > 1 else " stands"
    return f"{why}: {count} CPU rank{stand} in, which is for trying things out, not for speed."


def _crowding_notes(node: Node) -> tuple[str, ...]:
    count, core_count = len(node.devices), node.host.core_count
    return (f"{count} ranks share {core_count} cores and will be slow.",) if count > core_count else ()


def _limit_notes(node: Node, memory_limit_bytes: int | None) -> tuple[str, ...]:
    free_bytes = min(device.memory_free_bytes for device in node.devices)
    if memory_limit_bytes is None or memory_limit_bytes <= free_bytes:
        return ()
    limit, free = format_bytes(memory_limit_bytes), format_bytes(free_bytes)
    return (f"--memory-limit {limit} is more than the {free} free on each device, so it limits nothing.",)
