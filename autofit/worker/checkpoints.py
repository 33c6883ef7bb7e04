"""The checkpoints of a full run: which is the last to go on from, and which are set aside."""

from __future__ import annotations

import shutil
from pathlib import Path


def last_whole(folder: Path, up_to_step: float = float("inf")) -> Path | None:
    """Its state is written last: one without was cut off."""
    whole = [state.parent for state in folder.glob("checkpoint-*/trainer_state.json")]
    return max((path for path in whole if _step(path) <= up_to_step), key=_step, default=None)


def set_aside(folder: Path, after_step: int) -> None:
    """Renames `checkpoint-N` to `diverged-N`: what was saved after `after_step` is kept, and none goes on from it."""
    for path in folder.glob("checkpoint-*"):
        if _step(path) > after_step:
            place = path.with_name(f"diverged-{_step(path)}")
            shutil.rmtree(place, ignore_errors=True)  # an earlier try's, that came as far
            path.rename(place)


def _step(path: Path) -> int:
    digits = path.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1
