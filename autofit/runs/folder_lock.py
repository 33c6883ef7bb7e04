"""One autofit at a time in a run folder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from autofit.domain.errors import UsageError
from autofit.process.files import OURS, opening

# What file systems without locks answer (some Lustre and NFS mounts); there we go on without one.
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


@contextmanager
def hold(path: Path, flag: str) -> Iterator[None]:
    """Holds the lock file `path`; UsageError names the process that holds it already, and the `flag` of another folder.
    The kernel frees it on a kill."""
    with open(path, "a+", encoding="utf-8", opener=opening(OURS)) as stream:
        _take(stream, path, flag)
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def _take(stream: IO[str], path: Path, flag: str) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.seek(0)
        holder = stream.read().strip() or "unknown"
        raise UsageError(
            f"{path.parent} is in use by another autofit (process {holder}).\n"
            f"Wait until it ends, or choose another {flag}."
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
