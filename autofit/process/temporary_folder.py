"""A folder for a while, which a killed process leaves to the next one to take away."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = ".in-use"  # held as long as its process lives: the kernel frees it on a kill
_UNLOCKED = ".new"


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yields a new folder that goes at the end of `with`; those of `prefix` whose process is gone go at once."""
    folder, lock = claimed_folder(prefix, Path(tempfile.gettempdir()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def claimed_folder(prefix: str, place: Path) -> tuple[Path, int]:
    """Makes a folder in `place`, this process's until it ends or closes the descriptor; those of `prefix` whose process
    is gone go at once.

    Whoever looks at one that is in use does not touch what is in it: a socket that another connects to may be the end
    of who listens there.
    """
    for folder in place.glob(f"{prefix}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    lock = os.open(folder / _UNLOCKED, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(folder / _UNLOCKED, folder / _LOCK)  # nobody sees it before it is held
    except OSError:  # of a file system without locks: it has no lock then, and is nobody's to take away
        os.unlink(folder / _UNLOCKED)
    return folder, lock


def _is_abandoned(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:  # in use, another user's, or it has just been made or gone
        return False
