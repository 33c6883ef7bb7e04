"""Local data by its files: whether there is any, and whether it is still what it was, for a training that is resumed
goes on in the middle of it."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from pathlib import Path

from autofit.domain.errors import UsageError
from autofit.domain.workload import data_kind

from .local_path import Lies, nearest_text, unreadable, what_lies_at

_BLOCK_BYTES = 2**20
_MOST_BLOCKS = 64  # of each file: a change that adds or takes rows is seen by the size already
_HUB_ID = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?")


def check_source(source: str | None) -> None:
    """Checks that a source of data can be one, and asks nobody; UsageError for a file or folder that is not there."""
    if source is not None and what_lies_at(source) is Lies.NOTHING and not glob.has_magic(source):
        hub_dataset(source)


def hub_dataset(source: str) -> tuple[str, str | None]:
    """The name and the configuration of a data set on the hub; UsageError for what can only be a local file or folder,
    and is not there."""
    match = _HUB_ID.fullmatch(source)
    if match is None or data_kind(source) is not None or source.startswith("."):
        raise UsageError(f"{source}: there is no such file or folder.{nearest_text(source)}")
    return match[1], match[2]


def data_digest(source: str | None) -> str | None:
    """A digest of the content of the files that `source` names, wherever they lie; None for a hub id and for the
    sample."""
    paths = [] if source is None else _paths(source)
    if not paths:
        return None
    total = hashlib.sha256()
    for path in paths:
        total.update(_file_digest(path))
    return total.hexdigest()


def data_files(folder: Path) -> list[Path]:
    """The data files of a folder and of the folders in it, in order, but for hidden ones; UsageError for a folder that
    cannot be read."""

    def refuse(error: OSError) -> None:
        raise unreadable(error.filename or folder, error) from error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".") and data_kind(name) is not None]
    return sorted(path for path in found if path.is_file())


def _paths(source: str) -> list[Path]:
    path = Path(source).expanduser()
    lies = what_lies_at(source)
    if lies is Lies.FOLDER:
        return data_files(path)
    found = [path] if lies is Lies.FILE else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    return [one for one in found if one.is_file()]


def _file_digest(path: Path) -> bytes:
    """A digest of a file's size and of blocks all over it: of a small file that is all of it."""
    size_bytes = path.stat().st_size
    step_bytes = max(_BLOCK_BYTES, size_bytes // _MOST_BLOCKS)
    digest = hashlib.sha256(str(size_bytes).encode())
    with path.open("rb") as stream:
        for start in range(0, size_bytes, step_bytes):
            stream.seek(start)
            digest.update(stream.read(_BLOCK_BYTES))
    return digest.digest()
