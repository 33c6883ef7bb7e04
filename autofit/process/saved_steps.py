"""The checkpoints that a training leaves in a folder for the next start: `checkpoint-N`, after N optimizer steps."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

# As transformers 5.23 names them (PREFIX_CHECKPOINT_DIR), and finds them again (get_last_checkpoint): what somebody
# put beside them, such as a `checkpoint-best`, was not saved after a step that is known.
_NAME = re.compile(r"checkpoint-([0-9]+)")
_STATE = "trainer_state.json"  # written last: a checkpoint without it was cut off


def saved_step(path: Path) -> int | None:
    """The number of optimizer steps after which the checkpoint `path` was saved, by its name; None for a folder of
    another."""
    match = _NAME.fullmatch(path.name)
    return None if match is None else int(match[1])


def last_whole(folder: Path, up_to_step: float = float("inf")) -> Path | None:
    """The last checkpoint in `folder` of at most `up_to_step` steps that was written to its end; None without one."""
    whole = {step: path for step, path in _saved(folder).items() if step <= up_to_step and (path / _STATE).is_file()}
    return whole[max(whole)] if whole else None


def saved_after(folder: Path, step: int | None) -> list[Path]:
    """The checkpoints in `folder` of more than `step` steps, all of them where it is None; whole or not."""
    return [path for own, path in sorted(_saved(folder).items()) if step is None or own > step]


def set_aside(folder: Path, after_step: int) -> None:
    """Renames `checkpoint-N` to `diverged-N`: what was saved after `after_step` is kept, and none goes on from it."""
    for path in saved_after(folder, after_step):
        place = path.with_name(f"diverged-{saved_step(path)}")
        shutil.rmtree(place, ignore_errors=True)  # an earlier try's, that came as far
        path.rename(place)


def _saved(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder by their steps."""
    return {step: path for path in folder.glob("checkpoint-*") if (step := saved_step(path)) is not None}
