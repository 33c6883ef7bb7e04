"""Files that are whole at every moment, and in one sentence why one cannot be written."""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """With the folders above it. Several nodes may share the folder, and write the same at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def explain(error: OSError, path: Path) -> str:
    """What the user is to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(path)
    return f"{path} cannot be written ({error.strerror or error}): see to that there"


def no_space(path: Path) -> str:
    return f"there is no space left for {path}: free some there, or set TMPDIR to a folder with more"
