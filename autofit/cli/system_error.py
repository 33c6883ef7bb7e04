"""What the machine, and not our code, says no to wherever we work: in one sentence, with what to do."""

from __future__ import annotations

import errno
import os

_FREE = "free some space there"
_RIGHTS = "see to the permissions there, or name another place"
_REMEDIES = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENAMETOOLONG: "use shorter names",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close some files; the whole system has too many open",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or end some",
    errno.ENOMEM: "free some memory of this machine",
    errno.EIO: "look at that disk, or name another place",
    errno.ESTALE: "mount that file system again",
}


def system_sentence(error: Exception) -> str | None:
    """The sentence; None where the error is none of the machine's."""
    if isinstance(error, UnicodeError):
        return f"{error}: names and text files are to be UTF-8."
    if isinstance(error, MemoryError):
        return f"no memory is left: {_REMEDIES[errno.ENOMEM]}."
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.ENOENT and error.filename is None and not _has_directory():
        return "the directory that this command was started in is not there any more: change into another one."
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    words = error.strerror or os.strerror(error.errno or 0)
    return f"{words}{_where(error)}: {remedy}."


def _where(error: OSError) -> str:
    name = error.filename2 or error.filename
    return "" if name is None else f" ({os.fsdecode(name) if isinstance(name, (str, bytes)) else name})"


def _has_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
