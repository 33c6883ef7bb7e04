"""Files that are whole at every moment, files without a name, and in one sentence why one cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""There is no room for more: on the disk, in the quota, within the limit of a file's size."""


def write_whole(path: Path, content: str | bytes, *, mode: int | None = None, is_durable: bool = False) -> None:
    """Puts `content` (text as UTF-8) at `path` in one move: who reads it finds what was there before, or all of it.

    Several processes, of several nodes too, may write the same at once. A durable file outlives a loss of power as
    well. `mode` are its permissions, None those of any new file. OSError where it cannot be written: then what was
    there before stays, and nothing else does.
    """
    # Beside it, for a file moves in one piece within a file system alone; chance keeps nodes of one name apart.
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            if is_durable:
                stream.flush()
                os.fsync(stream.fileno())
        if mode is not None:
            temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def explain(error: OSError, path: Path) -> str:
    """Says why a file cannot be written, and what the user is to do about it."""
    if error.errno in FULL_ERRNOS:
        return no_space(path)
    return f"{path} cannot be written ({error.strerror or error}): see to that there"


def no_space(path: Path) -> str:
    return f"there is no space left for {path}: free some there, or set TMPDIR to a folder with more"


class NamelessFile:
    """A file in memory, open until it is closed or this process ends. Linux."""

    def __init__(self, label: str) -> None:
        self._descriptor: int | None = os.memfd_create(label)

    @property
    def path(self) -> str:
        """The path for other processes of this user, while this one lives and has it open (proc_pid_fd(5))."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Closes it; that may be called more often than once."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
