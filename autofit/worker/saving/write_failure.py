"""What went wrong when something was written, told from the exception of whichever library wrote it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from autofit.probing.protocol import FailureKind
from autofit.process.files import FULL_ERRNOS
from autofit.worker.rank.failure import KnownFailure
from autofit.worker.rank.full_disk import causes

_OF_RUST = re.compile(r"\(os error (\d+)\)")  # tokenizers and safetensors
# Its writer of zip files, which keeps no errno, and the stream below it, where a file is small.
_OF_TORCH = re.compile(r"inline_container\.cc|PytorchStreamWriter|basic_ios::clear")


@dataclass(frozen=True)
class WriteFailure:
    """`is_full` where the disk, a quota or a limit has no room for what was to be written."""

    is_full: bool
    why: str

    def __str__(self) -> str:
        return self.why


class NotWritten(KnownFailure):
    """What was to be saved is not: raised on every rank alike, with a whole sentence."""

    def __init__(self, failure: WriteFailure, sentence: str) -> None:
        super().__init__(FailureKind.DISK_FULL if failure.is_full else FailureKind.CRASHED, sentence)
        self.failure = failure


def write_failure(error: BaseException) -> WriteFailure | None:
    """What `error` says of a write that failed; None where it is about something else."""
    chain = list(causes(error))
    numbers = [number for one in chain if (number := _number(one)) is not None]
    full = next((number for number in numbers if number in FULL_ERRNOS), None)
    if full is not None:
        return WriteFailure(True, os.strerror(full))
    if numbers:
        return WriteFailure(False, os.strerror(numbers[0]))
    if any(isinstance(one, RuntimeError) and _OF_TORCH.search(str(one)) for one in chain):
        return WriteFailure(True, "torch could not write a file to its end, as on a full disk")
    return WriteFailure(False, str(error)) if isinstance(error, OSError) else None


def write(action: Callable[[], object]) -> WriteFailure | None:
    """Does it; what the disk says against that. Raises what is about something else."""
    try:
        action()
    except NotWritten as error:
        return error.failure
    except Exception as error:
        failure = write_failure(error)
        if failure is None:
            raise
        return failure
    return None


def _number(error: BaseException) -> int | None:
    """The errno that an exception tells."""
    if isinstance(error, OSError):
        return error.errno
    told = _OF_RUST.search(str(error))
    return None if told is None else int(told[1])
