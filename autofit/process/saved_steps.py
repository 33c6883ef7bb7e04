"""The checkpoints that a training leaves in a folder for the next start: `checkpoint-N`, after N optimizer steps."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from autofit.inputs.checkpoint_files import STATE, damage

# As transformers 5.23 names them (PREFIX_CHECKPOINT_DIR), and finds them again (get_last_checkpoint): what somebody
# put beside them, such as a `checkpoint-best`, was not saved after a step that is known.
_NAME = re.compile(r"checkpoint-([0-9]+)")
PARTIAL = ".partial"
"""The folder beside them in which one is written: it gets its name once it is whole."""


@dataclass(frozen=True)
class Torn:
    """A checkpoint that cannot be gone on from; `damage` says what of it is not whole."""

    path: Path
    damage: str

    def __str__(self) -> str:
        return f"{self.path} is not whole ({self.damage}) and is passed over"


@dataclass(frozen=True)
class SavedSteps:
    """The whole checkpoints of a training, each by its step and the earliest first; `best` is the one with the best
    evaluation, where the training looks for it. `torn` says of each later one why it is passed over."""

    whole: tuple[int, ...] = ()
    best: int | None = None
    torn: tuple[str, ...] = ()

    @property
    def last(self) -> int | None:
        """The one that the next start goes on from."""
        return self.whole[-1] if self.whole else None


def step_folder(folder: Path, step: int) -> Path:
    """The place of the checkpoint after so many steps."""
    return folder / f"checkpoint-{step}"


def is_saved(folder: Path, step: int) -> bool:
    """Whether a checkpoint after so many steps has got its name: the disk may have had no room for it."""
    return step_folder(folder, step).is_dir()


def saved_step(path: Path) -> int | None:
    """The number of optimizer steps after which the checkpoint `path` was saved, by its name; None for a folder of
    another."""
    match = _NAME.fullmatch(path.name)
    return None if match is None else int(match[1])


def last_whole(folder: Path, up_to_step: float = float("inf")) -> Path | None:
    """The last checkpoint in `folder` of at most `up_to_step` steps that is whole; None without one."""
    return next((path for path in _latest_first(folder, up_to_step) if damage(path) is None), None)


def whole(folder: Path) -> list[Path]:
    """The whole checkpoints in `folder`, the earliest first."""
    return [path for path in reversed(_latest_first(folder)) if damage(path) is None]


def torn(folder: Path) -> list[Torn]:
    """The checkpoints that are passed over on the way to the last whole one, the latest first."""
    found = []
    for path in _latest_first(folder):
        wrong = damage(path)
        if wrong is None:
            break
        found.append(Torn(path, wrong))
    return found


def saved_steps(folder: Path) -> SavedSteps:
    """What of a training is saved in `folder`."""
    paths = whole(folder)
    steps = tuple(step for path in paths if (step := saved_step(path)) is not None)
    best = _best(paths[-1]) if paths else None
    return SavedSteps(steps, best if best in steps else None, tuple(str(one) for one in torn(folder)))


def _best(checkpoint: Path) -> int | None:
    """The step of the best checkpoint so far, as the trainer's state in a whole one tells it."""
    path = json.loads((checkpoint / STATE).read_text("utf-8")).get("best_model_checkpoint")
    return saved_step(Path(path)) if isinstance(path, str) else None


def saved_after(folder: Path, step: int | None) -> list[Path]:
    """The checkpoints in `folder` of more than `step` steps, all of them where it is None; whole or not."""
    return [path for own, path in sorted(_saved(folder).items()) if step is None or own > step]


def set_aside(folder: Path, after_step: int) -> None:
    """Renames `checkpoint-N` to `diverged-N`: what was saved after `after_step` is kept, and none goes on from it."""
    for path in saved_after(folder, after_step):
        place = path.with_name(f"diverged-{saved_step(path)}")
        shutil.rmtree(place, ignore_errors=True)  # an earlier try's, that came as far
        path.rename(place)


def _latest_first(folder: Path, up_to_step: float = float("inf")) -> list[Path]:
    saved = sorted(_saved(folder).items(), reverse=True)
    return [path for step, path in saved if step <= up_to_step]


def _saved(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder by their steps."""
    return {step: path for path in folder.glob("checkpoint-*") if (step := saved_step(path)) is not None}
