"""Files that are whole at every moment, files without a name, and in one sentence why one cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

ANY = 0o666
OURS = 0o644
"""The permissions, before the umask takes from them, of what nobody else is to write: it is read or run again."""
OURS_TO_RUN = 0o755  # a folder too
_OTHERS = 0o022
FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""There is no room for more: on the disk, in the quota, within the limit of a file's size."""


def opening(mode: int) -> Callable[[str, int], int]:
    """The `opener` for `open` with which a new file has the permissions `mode`, less those that the umask takes."""
    return partial(os.open, mode=mode)


def keep_others_from_writing() -> None:
    """Has all that this process makes from here on be for its user alone to write, and to read as the umask says."""
    os.umask(os.umask(_OTHERS) | _OTHERS)


def write_whole(path: Path, content: str | bytes, *, mode: int = ANY, is_durable: bool = False) -> None:
    """Puts `content` (text as UTF-8) at `path` in one move: who reads it finds what was there before, or all of it.

    Several processes, of several nodes too, may write the same at once. A durable file outlives a loss of power as
    well. `mode` are its permissions, of which the umask takes. OSError where it cannot be written: then what was there
    before stays, and nothing else does.
    """
    # Beside it, for a file moves in one piece within a file system alone; chance keeps nodes of one name apart.
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb", opener=opening(mode)) as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            if is_durable:
                stream.flush()
                os.fsync(stream.fileno())
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
