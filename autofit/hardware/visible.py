"""Which GPUs CUDA will show, by the rules of CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from autofit.domain.errors import UsageError

from .nvml import Gpu


@dataclass(frozen=True)
class Selection:
    """The GPUs and MIG slices that a process may use, in CUDA's order; no GPU in MIG mode is among them."""

    gpus: tuple[Gpu, ...]
    notes: tuple[str, ...] = ()


def select_visible(gpus: Sequence[Gpu], visible_devices: str | None) -> Selection:
    """What CUDA_VISIBLE_DEVICES leaves of `gpus`; None means that it is not set.

    A number is taken as NVML's index, which is CUDA's own only with CUDA_DEVICE_ORDER=PCI_BUS_ID or where all GPUs
    are alike. UsageError when a GPU is named twice or when a list names none of the GPUs.
    """
    if visible_devices is None:
        return _without_parents(gpus, ())
    if not gpus or not visible_devices.strip():
        return Selection(())
    chosen: list[Gpu] = []
    notes: tuple[str, ...] = ()
    for entry in (part.strip() for part in visible_devices.split(",")):
        gpu = _find(gpus, entry)
        if gpu is None:
            notes = _end_of_list(visible_devices, entry, chosen, len(gpus))
            break
        if gpu in chosen:
            raise UsageError(
                f"CUDA_VISIBLE_DEVICES={visible_devices} names GPU {gpu.index} twice, for which CUDA hides every GPU: "
                "name each one once."
            )
        chosen.append(gpu)
    return _without_parents(chosen, notes)


def _find(gpus: Sequence[Gpu], entry: str) -> Gpu | None:
    if entry.isdecimal():
        return next((gpu for gpu in gpus if gpu.index == int(entry)), None)
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    everything = [piece for gpu in gpus for piece in (gpu, *gpu.slices)]
    matches = [gpu for gpu in everything if gpu.uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None  # an abbreviation must be unique


def _end_of_list(text: str, entry: str, chosen: Sequence[Gpu], gpu_count: int) -> tuple[str, ...]:
    if re.fullmatch(r"-\d+", entry):  # the usual way to write "no more"
        return ()
    if not chosen:
        raise UsageError(
            f"CUDA_VISIBLE_DEVICES={text} names none of the {gpu_count} GPUs here (0 to {gpu_count - 1}): "
            "correct it, unset it, or set it to -1 to try things out on the CPU."
        )
    return (f"CUDA_VISIBLE_DEVICES={text}: '{entry}' is no GPU of this machine, so CUDA ignores it and all after it.",)


def _without_parents(gpus: Sequence[Gpu], notes: tuple[str, ...]) -> Selection:
    whole = tuple(gpu for gpu in gpus if not gpu.is_in_mig_mode and not gpu.is_slice)
    slices = tuple(piece for gpu in gpus for piece in ((gpu,) if gpu.is_slice else gpu.slices))
    empty = [gpu.index for gpu in gpus if gpu.is_in_mig_mode and not gpu.slices]
    notes += tuple(f"GPU {index} is in MIG mode, has no slices, and is left out." for index in empty)
    if whole:
        if slices:
            notes += ("MIG slices are left out: a job cannot use them together with whole GPUs.",)
        return Selection(whole, notes)
    if len(slices) > 1:
        notes += (f"One of {len(slices)} MIG slices is used: a process sees no more than one.",)
    return Selection(slices[:1], notes)
