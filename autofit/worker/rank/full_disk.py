"""Whether an exception says that a disk, a quota or /dev/shm is full; told by its errno, else by a library's words."""

from __future__ import annotations

import errno
import os
import re
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autofit.domain.units import format_bytes
from autofit.process.files import FULL_ERRNOS

_SHARED_MEMORY = Path("/dev/shm")

# Each has the file that says so.
_DISK_WORDS = re.compile(
    # errno's own words, as safetensors (SafetensorError: "I/O error: No space left on device (os error 28)"), pyarrow
    # and C++ libraries pass them on
    r"No space left on device|Disk quota exceeded|File too large"
    # torch: caffe2/serialize/inline_container.cc, of torch.save; the writer's destructor tells of the same afterwards
    r"|PytorchStreamWriter failed writing file"
)
_SHARED_WORDS = re.compile(
    # nccl/src/misc/shmutils.cc
    r"shared memory segment /dev/shm/\S+ .*No space left on device"
    # torch: ATen/MapAllocator.cpp, of tensors that go from a data loader's worker to its rank
    r"|(</torch_\d|shared memory ?(object|\(shm\))).*No space left on device"
    r"|/dev/shm\S* .*No space left on device|No space left on device.*/dev/shm"
    # torch/csrc/DataLoader.cpp: /dev/shm was full when a page of it was touched
    r"|killed by signal: Bus error"
)
# What multiprocessing makes there has no name in its error.
_SHARING_CODE = re.compile(r"multiprocessing/(synchronize|shared_memory|heap)\.py$")


@dataclass(frozen=True)
class FullDisk:
    """What is full: /dev/shm where `is_shared`; `sentence` names the file where that is known."""

    is_shared: bool
    sentence: str


def full_disk(error: BaseException, text: str) -> FullDisk | None:
    """What `error` itself found full; None where that was not what went wrong. `text` are its words on one line."""
    if isinstance(error, OSError) and error.errno in FULL_ERRNOS:
        return _of_errno(error)
    if _SHARED_WORDS.search(text):
        return FullDisk(True, text)
    return FullDisk(False, text) if _DISK_WORDS.search(text) else None


def full_disk_behind(error: BaseException) -> FullDisk | None:
    """What one of those that `error` follows from found full."""
    found = (full_disk(one, " ".join(f"{type(one).__name__}: {one}".split())) for one in causes(error))
    return next((one for one in found if one is not None), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it was raised from or during, the last one first."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _of_errno(error: OSError) -> FullDisk:
    words = error.strerror or str(error)
    if error.filename is None:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        return FullDisk(any(map(_SHARING_CODE.search, files)), words)
    path = Path(os.fsdecode(error.filename))
    return FullDisk(path.is_relative_to(_SHARED_MEMORY), f"{words}: {path}{_left(path, error.errno)}")


def _left(path: Path, number: int | None) -> str:
    """How much is free there, where space is what lacks."""
    if number != errno.ENOSPC:
        return ""
    try:
        return f", {format_bytes(shutil.disk_usage(path.parent).free)} free there"
    except OSError:  # its folder went with it
        return ""
