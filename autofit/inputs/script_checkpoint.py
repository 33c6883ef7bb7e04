"""What lies in a folder of DeepSpeed's checkpoints, told by names alone: nothing of it is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from autofit.domain.checkpoint import ranks_in, stages_in
from autofit.domain.script import LoadedCheckpoint

from .checkpoint_files import LATEST

_LATEST_UNIVERSAL = "latest_universal"


def read_checkpoint(folder: str, tag: str | None = None, *, is_universal: bool = False) -> LoadedCheckpoint | None:
    """The checkpoint `tag` of `folder`, or the one that is named the latest; None where there is none."""
    latest = Path(folder, _LATEST_UNIVERSAL if is_universal else LATEST)
    try:
        place = Path(folder, latest.read_text().strip() if tag is None else str(tag))
        names = [path.name for path in place.iterdir()]
    except (OSError, ValueError):  # not there, or no name of a folder
        return None
    stages = stages_in(names, is_universal=is_universal)
    return (
        LoadedCheckpoint(str(place), stages, len(ranks_in(names)) or None, is_universal=is_universal)
        if stages
        else None
    )


def divided_otherwise(folder: str, rank_count: int) -> LoadedCheckpoint | None:
    """The latest checkpoint of `folder` where ZeRO has divided it among another number of ranks; None where it is
    loaded as it is, or there is none."""
    found = read_checkpoint(folder)
    return None if found is None or found.rank_count in (None, rank_count) else found


def to_make_universal(folder: str) -> LoadedCheckpoint | None:
    """The checkpoint to make universal: the latest of `folder`, where none there is; None where nothing can be made of
    it.

    DeepSpeed's tool reads what ZeRO has written, not what stage 0 has.
    """
    if read_checkpoint(folder, is_universal=True) is not None:
        return None
    found = read_checkpoint(folder)
    return None if found is None or found.zero_stages == (0,) else replace(found, is_universal=True)
