"""What an exception of torch, DeepSpeed or the allocators means: translated once, here."""

from __future__ import annotations

import re
import time

from autofit.domain.outcome import Phase, Place
from autofit.probing.protocol import FailureKind, RankFailed

_CPU_ALLOCATOR = re.compile(r"you tried to allocate (\d+) bytes")
_CUDA_ALLOCATOR = re.compile(r"Tried to allocate ([\d.]+) ([KMG]iB)")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

# Words of allocators that raise a plain RuntimeError or OSError. The last is a thread's stack that found no memory.
# and the one before it oneDNN's, which has no room for a kernel that it compiles.
_HOST_WORDS = (
    "can't allocate memory",
    "Cannot allocate memory",
    "bad_alloc",
    "Unable to allocate",
    "could not create a primitive",
    "start new thread",
)
_PINNED_WORDS = ("cudaHostAlloc", "pin_memory", "pinned")
_DEVICE_WORDS = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "Failed to CUDA malloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_UNSUPPORTED_WORDS = (
    "not supported",
    "does not support",
    "not implemented for",
    "FlashAttention only support",
    "flash_attn seems to be not installed",
    "Target modules",
)


def rank_failed(error: BaseException, phase: Phase, *, on_cpu: bool, peak_bytes: int | None) -> RankFailed:
    """The report of a rank that raised `error` during `phase`."""
    message = " ".join(f"{type(error).__name__}: {error}".split())[:600]
    kind, place = _classify(error, message, on_cpu=on_cpu)
    return RankFailed(
        kind=kind,
        phase=phase,
        place=place,
        message=message,
        at_s=time.time(),
        requested_bytes=_requested_bytes(message),
        peak_bytes=peak_bytes,
    )


def _classify(error: BaseException, message: str, *, on_cpu: bool) -> tuple[FailureKind, Place]:
    host = Place.DEVICE if on_cpu else Place.HOST  # on a CPU the host's memory is the device
    if type(error).__name__ == "OutOfMemoryError":
        return FailureKind.OUT_OF_MEMORY, Place.DEVICE
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == 12):
        return FailureKind.OUT_OF_MEMORY, host
    if any(word in message for word in _DEVICE_WORDS):
        is_pinned = any(word in message for word in _PINNED_WORDS)
        return FailureKind.OUT_OF_MEMORY, host if is_pinned else Place.DEVICE
    if isinstance(error, (RuntimeError, OSError)) and any(word in message for word in _HOST_WORDS):
        return FailureKind.OUT_OF_MEMORY, host
    if isinstance(error, (ValueError, ImportError, NotImplementedError)) or any(
        word in message for word in _UNSUPPORTED_WORDS
    ):
        return FailureKind.UNSUPPORTED, Place.DEVICE
    return FailureKind.CRASHED, Place.DEVICE


def _requested_bytes(message: str) -> int | None:
    if match := _CPU_ALLOCATOR.search(message):
        return int(match.group(1))
    if match := _CUDA_ALLOCATOR.search(message):
        return int(float(match.group(1)) * _UNITS[match.group(2)])
    return None
