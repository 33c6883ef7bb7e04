"""What an exception of torch, DeepSpeed or the allocators means: the report of a rank that raised it."""

from __future__ import annotations

import os
import re
import time

from autofit.domain.divergence import Divergence
from autofit.domain.masking import masked
from autofit.domain.outcome import Phase, Place
from autofit.probing.protocol import FailureKind, RankFailed
from autofit.worker.rank.out_of_memory import lacking_place

_CPU_ALLOCATOR = re.compile(r"you tried to allocate (\d+) bytes")
_CUDA_ALLOCATOR = re.compile(r"Tried to allocate ([\d.]+) ([KMG]iB)")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MESSAGE_LENGTH = 600

_UNSUPPORTED_WORDS = (
    "not supported",
    "does not support",
    "not implemented for",
    "FlashAttention only support",
    "only supports head dimension at most",
    "flash_attn seems to be not installed",
    "Target modules",
    "Expected to have finished reduction in the prior iteration",  # DDP: some parameter had no gradient
    "out of resource: ",  # Triton: a kernel wants more of a multiprocessor than this device has
    "too many resources requested for launch",
    "no kernel image is available",
    "device kernel image is invalid",
)

_LOST_NEIGHBOUR_WORDS = (
    "Connection reset by peer",  # gloo
    "Connection closed by peer",
    "Broken pipe",
    "remote process exited or there was a network error",  # NCCL
)


class KnownFailure(Exception):
    """A failure that our own code raises: its message is a whole sentence for the user."""

    def __init__(self, kind: FailureKind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class TrainingDiverged(Exception):
    """A full run is over because what it learns is no model."""

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(divergence)
        self.divergence = divergence


class TrainingStopped(Exception):
    """A full run is over because it was asked to end, after it has saved what it came to."""

    def __init__(self, step: int, signal: int | None) -> None:
        super().__init__(step, signal)
        self.step = step
        self.signal = signal  # that this rank heard; None where only others did


def rank_failed(
    error: BaseException, phase: Phase, *, is_on_cpu: bool, peak_bytes: int | None, free_device_bytes: int | None = None
) -> RankFailed:
    """The report of a rank that raised `error` during `phase`.

    `free_device_bytes` is what the driver had left then; it decides where the words alone do not.
    """
    if isinstance(error, KnownFailure):
        return RankFailed(error.kind, phase, Place.DEVICE, str(error), time.time(), peak_bytes=peak_bytes)
    text = masked(" ".join(f"{type(error).__name__}: {error}".split()), os.environ)
    lacking = lacking_place(error, text, is_on_cpu=is_on_cpu, free_device_bytes=free_device_bytes)
    message = text[:_MESSAGE_LENGTH]
    return RankFailed(
        kind=_other_kind(error, message) if lacking is None else FailureKind.OUT_OF_MEMORY,
        phase=phase,
        place=lacking or Place.DEVICE,
        message=message,
        at_s=time.time(),
        requested_bytes=_requested_bytes(text),
        peak_bytes=peak_bytes,
    )


def _other_kind(error: BaseException, message: str) -> FailureKind:
    """The kind of an error that is not about memory."""
    if isinstance(error, (ValueError, ImportError, NotImplementedError)) or any(
        word in message for word in _UNSUPPORTED_WORDS
    ):
        return FailureKind.UNSUPPORTED
    has_lost = isinstance(error, RuntimeError) and any(word in message for word in _LOST_NEIGHBOUR_WORDS)
    return FailureKind.LOST_NEIGHBOUR if has_lost else FailureKind.CRASHED


def _requested_bytes(text: str) -> int | None:
    if match := _CPU_ALLOCATOR.search(text):
        return int(match.group(1))
    if match := _CUDA_ALLOCATOR.search(text):
        return int(float(match.group(1)) * _UNITS[match.group(2)])
    return None
