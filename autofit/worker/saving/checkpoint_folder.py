"""The folder of a training's checkpoints: each written apart, and named once it is whole."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from autofit.domain.codec import to_json
from autofit.inputs.checkpoint_files import MANIFEST, STATE, damage, sizes_bytes
from autofit.process.saved_steps import PARTIAL, last_whole, saved_after, step_folder, whole

_SCHEMA = 1


class CheckpointFolder:
    """`kept_count` checkpoints stay when another has got its name; None: all of them. OSError where the file system
    says no."""

    def __init__(self, folder: Path, kept_count: int | None) -> None:
        self._folder = folder
        self._kept_count = kept_count
        self.partial = folder / PARTIAL

    def begin(self) -> None:
        """Makes the folder in which one is written; what an earlier save left when it was killed goes."""
        self.discard()
        self.partial.mkdir(parents=True, exist_ok=True)

    def discard(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)

    def flush(self, step: int) -> None:
        """Waits until the files, as far as this node has written them, outlive a loss of power."""
        for path in step_folder(self.partial, step).rglob("*"):
            _flush(path)

    def name(self, step: int) -> None:
        """Gives what is written its name, in one move; OSError where it is not whole."""
        written, place = step_folder(self.partial, step), step_folder(self._folder, step)
        self._seal(written)
        if place.exists():  # it was not whole, or the training began before it
            place.rename(self.partial / "replaced")
        written.rename(place)
        _flush(self._folder)
        self.discard()

    def name_elsewhere(self, step: int) -> None:
        """Does the same on a node whose folder is its own; where it is shared, all is done."""
        with suppress(OSError):
            step_folder(self.partial, step).rename(step_folder(self._folder, step))

    def _seal(self, written: Path) -> None:
        """Looks whether all is there, and writes the manifest."""
        wrong = damage(written)
        if wrong is not None:
            raise OSError(f"what was written is not whole: {wrong}")
        manifest = {"schema": _SCHEMA, "sizes_bytes": sizes_bytes(written)}
        (written / MANIFEST).write_text(to_json(manifest, indent=1) + "\n", "utf-8")
        for path in (written / STATE, written / MANIFEST, written):
            _flush(path)

    def rotate(self, step: int, best: str | None) -> None:
        """Removes what is more than is to be kept, the earliest first: never the one after `step` steps, which is the
        last, nor the best one. Those that are not whole count for nothing, and go."""
        if not self._kept_count or self._kept_count < 0:
            return
        found = whole(self._folder)
        spare = [path for path in found if path not in _held(step_folder(self._folder, step), best)]
        broken = [path for path in saved_after(self._folder, None) if path not in found]
        for path in (*broken, *spare[: max(0, len(found) - self._kept_count)]):
            self._remove(path)

    def make_room(self, best: str | None) -> bool:
        """Removes the earliest whole checkpoint that is neither the last nor the best; whether that was possible."""
        found = whole(self._folder)
        spare = [path for path in found if path not in _held(found[-1], best)]
        return bool(spare) and self._remove(spare[0])

    @property
    def last(self) -> Path | None:
        return last_whole(self._folder)

    def _remove(self, path: Path) -> bool:
        """Removes a checkpoint, which loses its name first: what is left of it where that is cut off is none. Whether
        it has gone."""
        try:
            self.partial.mkdir(exist_ok=True)
            path.rename(self.partial / path.name)
        except OSError:
            return False
        self.discard()
        return True


def _held(last: Path, best: str | None) -> list[Path]:
    """The checkpoints that are never removed."""
    return [last] if best is None else [last, Path(best)]


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
