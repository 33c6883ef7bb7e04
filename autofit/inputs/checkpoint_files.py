"""The files of a checkpoint, and whether all of each is there: by names, sizes, headers and ends; no tensor is read."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from autofit.domain.checkpoint import plain_ranks_in, random_ranks_in, ranks_in, stages_in
from autofit.domain.errors import UsageError
from autofit.inputs.weights import ADAPTER_FILE, ENTRY_FILES, has_all_weights, read_header

MANIFEST = "manifest.json"
"""What autofit writes last into a checkpoint: the size of each file by its path in it. Older checkpoints and those of
others have none."""
STATE = "trainer_state.json"
"""What transformers' trainer says of itself: it writes it last."""

LATEST = "latest"
"""Names the folder of what DeepSpeed's engine saved."""

_ARGUMENTS = "training_args.bin"  # beside the weights in each checkpoint of transformers'
_OF_TORCH = (".pt", ".pth", ".bin")
_ZIP, _PICKLE = b"PK", b"\x80"  # how a file of torch.save begins, today's and that of before torch 1.6


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint that cannot be gone on from, as an ending of "it is not whole: "; None for a
    whole one."""
    return next(_damages(folder), None)


def sizes_bytes(folder: Path) -> dict[str, int]:
    """The size of each file in a checkpoint, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _damages(folder: Path) -> Iterator[str]:
    if not _is_object(folder / STATE):
        yield f"it has no readable {STATE}"
        return
    manifest = folder / MANIFEST
    yield from _unlike(folder, manifest) if manifest.is_file() else _missing(folder)
    for name in sizes_bytes(folder):
        if not _is_readable(folder / name):
            yield f"{name} is cut short"


def _unlike(folder: Path, manifest: Path) -> Iterator[str]:
    """What the manifest names and is not there as it says."""
    found = sizes_bytes(folder)
    try:
        sizes = json.loads(manifest.read_text("utf-8"))["sizes_bytes"]
        promised = {name: int(size_bytes) for name, size_bytes in sizes.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        yield f"its {MANIFEST} cannot be read"
        return
    for name, size_bytes in promised.items():
        if name not in found:
            yield f"{name} is missing"
        elif found[name] < size_bytes:
            yield f"{name} has {found[name]:,} of {size_bytes:,} bytes"


def _missing(folder: Path) -> Iterator[str]:
    """What the names of the files that are there promise, and is not."""
    names = [path.name for path in folder.iterdir()]
    if LATEST in names:
        yield from _missing_of_engine(folder, random_ranks_in(names))
    elif (ranks := plain_ranks_in(names)) != set(range(len(ranks))):
        yield "parts of some ranks are missing"
    has_model = LATEST in names or ADAPTER_FILE in names
    if _ARGUMENTS in names and not has_model and not any(name in names for name in ENTRY_FILES):
        yield "its weights are missing"
    try:
        if any(name in names for name in ENTRY_FILES) and not has_all_weights(folder):
            yield "a shard of its weights is missing"
    except UsageError:
        yield "the index of its weights cannot be read"


def _missing_of_engine(folder: Path, ranks: frozenset[int]) -> Iterator[str]:
    """What is missing among the files of DeepSpeed's engine on these ranks. Without ZeRO one file has everything, and
    a rank's own random state may be all that it leaves."""
    try:
        parts = folder / (folder / LATEST).read_text("utf-8").strip()
        names = [path.name for path in parts.iterdir()]
    except FileNotFoundError:
        names = []
    except (OSError, ValueError):  # not text, or no name of a folder
        yield f"its file {LATEST} is damaged"
        return
    if not stages_in(names):
        yield "what DeepSpeed's engine saved is missing"
    shares = ranks_in(names)
    if shares and (shares != set(range(len(shares))) or (ranks and ranks != shares)):
        yield "parts of some ranks are missing"


def _is_object(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text("utf-8")), dict)
    except (OSError, ValueError, RecursionError):
        return False


def _is_readable(path: Path) -> bool:
    """Whether a file of tensors is there to its end; of other files nothing is known."""
    if path.suffix == ".safetensors":
        try:
            read_header(path)
        except (OSError, UsageError):
            return False
    elif path.suffix in _OF_TORCH:
        return _is_readable_torch(path)
    return True


def _is_readable_torch(path: Path) -> bool:
    """Whether a zip has its end record, or a pickle of before its beginning, whose end says nothing."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
            return zipfile.is_zipfile(file) if start == _ZIP else start[:1] == _PICKLE
    except OSError:
        return False
