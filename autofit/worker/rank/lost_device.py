"""Whether an exception says that its device is gone, or its memory not to be trusted; told by CUDA's, NCCL's and NVML's
words, and by the kernel's log where that may be read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

# Each has the file that says so. An illegal memory access and a device-side assert are none: a kernel did them.
_LOST = re.compile(
    # cudaErrorECCUncorrectable, driver_types.h
    r"uncorrectable ECC error encountered"
    # NVML_ERROR_GPU_IS_LOST, nvml.h; nvidia-smi's words for it
    r"|GPU is lost|Unable to determine the device handle for GPU"
    # Xid 79 in NVIDIA's Xid errors
    r"|[Ff]allen off the bus|fell off the bus"
    # cudaErrorNoDevice; torch: c10/cuda/CUDAFunctions.cpp: it was there when the devices were counted
    r"|no CUDA-capable device is detected|No CUDA GPUs are available"
)
# cudaErrorLaunchFailure, cudaErrorLaunchTimeout, cudaErrorContained and cudaErrorIllegalAddress, driver_types.h: a
# kernel's fault, or the device's; its Xid tells.
_DOUBTFUL = re.compile(
    r"unspecified launch failure|the launch timed out|Invalid access of peer GPU memory|illegal memory access"
    r"|Cuda failure (\d+ )?'unknown error'|CUDA error: unknown error"
)
# NVIDIA's Xid errors that are the device's own: double-bit ECC (48), row remapping (64), NVLink (74), off the bus (79),
# contained and uncontained ECC (94, 95), no answer of its own processor (119, 120).
_DEVICE_XIDS = {48, 64, 74, 79, 94, 95, 119, 120}
_XID = re.compile(r"NVRM: Xid \(.*?\): (\d+),")

_KERNEL_LOG = Path("/dev/kmsg")
_RECORD_BYTES = 8192
_RECENT_S = 120.0


def lost_xid(text: str, clock_s: float, log: Path = _KERNEL_LOG) -> tuple[bool, int | None]:
    """Whether the device was lost, and NVIDIA's number of the error where the kernel's log may be read.

    `text` are the exception's words; `clock_s` is the monotonic time now, which the log counts in as well.
    """
    is_lost, is_doubtful = bool(_LOST.search(text)), bool(_DOUBTFUL.search(text))
    if not is_lost and not is_doubtful:
        return False, None
    number = next((one for one in _recent_xids(log, clock_s) if one in _DEVICE_XIDS), None)
    return is_lost or number is not None, number


def _recent_xids(log: Path, clock_s: float) -> Iterator[int]:
    """The Xids of the last minutes. A record is `priority,number,microseconds,flags;text` (kernel:
    Documentation/ABI/testing/dev-kmsg)."""
    for record in _records(log):
        head, _, text = record.partition(";")
        found, fields = _XID.search(text), head.split(",")
        if found and len(fields) > 2 and fields[2].isdecimal() and int(fields[2]) / 1e6 >= clock_s - _RECENT_S:
            yield int(found.group(1))


def _records(log: Path) -> list[str]:
    """The records of the kernel's log, one a read; none where only root may see it."""
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    with open(descriptor, "rb", buffering=0) as stream:
        records: list[str] = []
        while record := _next(stream.fileno()):
            records += record.decode(errors="replace").splitlines()
        return records


def _next(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _RECORD_BYTES)
    except OSError:  # nothing more (EAGAIN), or what was to come was written over (EPIPE)
        return b""
