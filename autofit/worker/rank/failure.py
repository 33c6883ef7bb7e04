"""What an exception of torch, DeepSpeed or the allocators means: the report of a rank that raised it."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

from autofit.domain.divergence import Divergence
from autofit.domain.errors import AutofitError
from autofit.domain.masking import masked
from autofit.domain.outcome import Phase, Place
from autofit.probing.protocol import FailureKind, RankFailed
from autofit.worker.rank.full_disk import full_disk, full_disk_behind
from autofit.worker.rank.lost_device import lost_xid
from autofit.worker.rank.out_of_memory import lacking_place
from autofit.worker.rank.raising_line import is_ours, is_users, raising_line

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
    "Application timeout caused pair closure",
    "failed to recv, got 0 bytes",  # torch: TCPStore.cpp
    "remote process exited or there was a network error",  # NCCL
    "NCCL communicator was aborted",  # torch: NCCLUtils.hpp
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
    """A full run is over because it was asked to end, after it has saved what it came to, or has tried to."""

    def __init__(self, step: int | None, signal: int | None) -> None:
        super().__init__(step, signal)
        self.step = step  # that is saved
        self.signal = signal  # that this rank heard; None where only others did


def rank_failed(
    error: BaseException,
    phase: Phase,
    *,
    is_on_cpu: bool,
    peak_bytes: int | None,
    free_device_bytes: int | None = None,
    is_script: bool = False,
) -> RankFailed:
    """The report of a rank that raised `error` during `phase`.

    `free_device_bytes` is what the driver had left then; it decides where the words alone do not. `is_script`: a script
    of the user's ran.
    """
    if isinstance(error, KnownFailure):
        return RankFailed(error.kind, phase, Place.DEVICE, str(error), time.time(), peak_bytes=peak_bytes)
    text = masked(" ".join(f"{type(error).__name__}: {error}".split()), os.environ)
    means = _meaning(error, text, is_on_cpu=is_on_cpu, free_device_bytes=free_device_bytes, is_script=is_script)
    return RankFailed(
        kind=means.kind,
        phase=phase,
        place=means.place,
        message=means.message[:_MESSAGE_LENGTH] + means.line,
        at_s=time.time(),
        requested_bytes=_requested_bytes(text),
        peak_bytes=peak_bytes,
        xid=means.xid,
        is_ours=means.kind is FailureKind.CRASHED and is_ours(error),
    )


@dataclass(frozen=True)
class _Meaning:
    """What is reported of an error; `line` names where it was raised, in brackets, where that helps."""

    kind: FailureKind
    message: str
    place: Place = Place.DEVICE
    line: str = ""
    xid: int | None = None


def _meaning(
    error: BaseException, text: str, *, is_on_cpu: bool, free_device_bytes: int | None, is_script: bool
) -> _Meaning:
    """What an error means; `text` are its words on one line."""
    full = full_disk(error, text)
    lacking = lacking_place(error, text, is_on_cpu=is_on_cpu, free_device_bytes=free_device_bytes)
    if full is None and lacking is not None:
        return _Meaning(FailureKind.OUT_OF_MEMORY, text, lacking)
    if (full := full or full_disk_behind(error)) is not None:
        if full.is_shared:
            return _Meaning(FailureKind.OUT_OF_MEMORY, full.sentence, Place.SHARED)
        return _Meaning(FailureKind.DISK_FULL, full.sentence)
    is_lost, xid = lost_xid(text, time.monotonic())
    if is_lost:
        return _Meaning(FailureKind.DEVICE_LOST, text, xid=xid)
    kind = FailureKind.USER_FAULT if is_users(error, is_script=is_script) else _other_kind(error, text)
    has_line = kind is FailureKind.CRASHED or (kind is FailureKind.USER_FAULT and is_script)
    said = masked(str(error), os.environ) if isinstance(error, AutofitError) else text
    return _Meaning(kind, said, line=f" ({raising_line(error)})" if has_line else "")


def _other_kind(error: BaseException, message: str) -> FailureKind:
    """The kind of an error that is about neither memory nor a device nor a disk."""
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
