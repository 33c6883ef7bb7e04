"""GPUs as the domain knows them: devices, the link between them, and what is odd about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from autofit.domain.hardware import Device, DeviceKind, Link
from autofit.domain.units import format_bytes

from . import sku
from .nvml import Gpu

# An idle GPU shows some hundred MB in use, which are the driver's own.
_NOTABLE_SHARE_IN_USE = 0.1


def to_device(gpu: Gpu, own_pid: int) -> Device:
    """The device that `gpu` is, with its product's rates; a slice is no product, and what share of the rates it has
    nobody says."""
    key = None if gpu.is_slice else sku.find(gpu.name, gpu.memory_total_bytes)
    return Device(
        kind=DeviceKind.CUDA,
        index=gpu.index,
        name=gpu.name,
        sku=key,
        uuid=gpu.uuid,
        memory_total_bytes=gpu.memory_total_bytes,
        memory_free_bytes=gpu.memory_free_bytes,
        compute_capability=gpu.compute_capability,
        other_process_count=len(set(gpu.process_ids) - {own_pid}),
        is_mig=gpu.is_slice,
        rates=sku.get(key).rates if key else None,
    )


def link_between(devices: Sequence[Device], nvlink_pairs: frozenset[tuple[int, int]] | None) -> Link:
    """The slowest link that traffic between these devices must take.

    Two GPUs without a direct NVLink may still reach each other over others that have one, as NCCL's rings do on an
    8 x V100 board, so it is enough that NVLink connects them all somehow.
    """
    indices = {device.index for device in devices}
    if len(devices) < 2 or nvlink_pairs is None:
        return Link.UNKNOWN
    reached = {min(indices)}
    for _ in indices:
        reached |= {index for pair in nvlink_pairs if reached & set(pair) for index in pair if index in indices}
    return Link.NVLINK if reached == indices else Link.PCIE


def notes_on(devices: Sequence[Device]) -> tuple[str, ...]:
    """One sentence for each device that others use, for unknown hardware, and for unlike GPUs."""
    used = [_usage_note(device) for device in devices]
    return (*(note for note in used if note), *_unknown_notes(devices), *_mixture_notes(devices))


def _usage_note(device: Device) -> str | None:
    free = f"{format_bytes(device.memory_free_bytes)} of {format_bytes(device.memory_total_bytes)} free"
    count = device.other_process_count
    if count:
        return f"GPU {device.index} is used by {count} other process{'es' if count > 1 else ''}, {free}."
    in_use_bytes = device.memory_total_bytes - device.memory_free_bytes
    if in_use_bytes > _NOTABLE_SHARE_IN_USE * device.memory_total_bytes:
        return f"GPU {device.index} is in use by something outside this container or unseen by the driver, {free}."
    return None


def _unknown_notes(devices: Sequence[Device]) -> tuple[str, ...]:
    names = dict.fromkeys(device.name for device in devices if device.sku is None)
    return tuple(f"{name} is not in autofit's table: how fast it is will be known from probes alone." for name in names)


def _mixture_notes(devices: Sequence[Device]) -> tuple[str, ...]:
    counts = Counter(device.name for device in devices)
    if len(counts) < 2:
        return ()
    kinds = " and ".join(f"{count} × {name}" for name, count in counts.items())
    return (
        f"The GPUs differ ({kinds}): the smallest free memory and the slowest GPU decide for all. "
        "Set CUDA_DEVICE_ORDER=PCI_BUS_ID so that CUDA numbers them as here.",
    )
