"""A checkpoint of ZeRO made universal, so that any number of ranks loads it: a folder beside those of a run.

It has DeepSpeed's universal files, and links to the rest of the checkpoint, in which nothing is written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from autofit.inputs.checkpoint_files import LATEST, STATE

UNIVERSAL = "universal-"
_PARTIAL = ".partial"


def begin(checkpoints: Path, source: Path) -> Path:
    """An empty folder for the universal files of the checkpoint `source`; what an earlier start has left goes."""
    drop(checkpoints)
    place = Path(f"{_place(checkpoints, source)}{_PARTIAL}")
    place.mkdir()
    return place


def finish(begun: Path, source: Path) -> Path:
    """Adds the rest of the checkpoint to what lies in `begun`, and gives it its name; the folder then."""
    engine_folder = (source / LATEST).read_text("utf-8").strip()
    for path in source.resolve().iterdir():
        if path.name not in (LATEST, engine_folder):
            (begun / path.name).symlink_to(path)
    return begun.rename(str(begun).removesuffix(_PARTIAL))


def found(checkpoints: Path, source: Path) -> Path | None:
    """The universal form of the checkpoint `source`; None where there is none."""
    place = _place(checkpoints, source)
    return place if (place / STATE).resolve() == (source / STATE).resolve() else None


def drop(checkpoints: Path) -> None:
    """Removes what was made universal here, whole or not."""
    for place in checkpoints.glob(f"{UNIVERSAL}*"):
        shutil.rmtree(place)


def _place(checkpoints: Path, source: Path) -> Path:
    return checkpoints / f"{UNIVERSAL}{source.name}"
