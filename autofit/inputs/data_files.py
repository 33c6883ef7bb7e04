"""Local data by its files: whether there is any, and whether it is still what it was, for a training that is resumed
goes on in the middle of it."""

from __future__ import annotations

import glob
import hashlib
import re
from pathlib import Path

from autofit.domain.errors import UsageError
from autofit.domain.workload import DATA_KINDS

_BLOCK_BYTES = 2**20
_MOST_BLOCKS = 64  # of each file: a change that adds or takes rows is seen by the size already
_HUB_ID = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?")


def check_source(source: str | None) -> None:
    """Checks that a source of data can be one, and asks nobody; UsageError for a file or folder that is not there."""
    if source is not None and not Path(source).expanduser().exists() and not glob.has_magic(source):
        hub_dataset(source)


def hub_dataset(source: str) -> tuple[str, str | None]:
    """The name and the configuration of a data set on the hub; UsageError for what can only be a local file or folder,
    and is not there."""
    match = _HUB_ID.fullmatch(source)
    if match is None or Path(source).suffix in DATA_KINDS or source.startswith("."):
        raise UsageError(f"{source}: there is no such file or folder.")
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


def _paths(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_dir():
        return sorted(one for one in path.iterdir() if one.suffix in DATA_KINDS and one.is_file())
    found = [path] if path.is_file() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
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
