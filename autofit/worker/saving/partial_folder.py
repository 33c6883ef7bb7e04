"""A folder's new files, apart until all of them are whole: a model that is found under its name is one."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

_NAME = ".partial"


class PartialFolder:
    """New files for `folder`, in a folder within it: on the same file system, where a file moves in one piece."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / _NAME

    def begin(self) -> None:
        """Makes it anew; what an earlier save left when it was killed goes."""
        self.discard()
        self.path.mkdir(parents=True)

    def discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def finish(self, *, entry: str, stale: Collection[str]) -> None:
        """Moves every file to its place, and removes `stale` ones.

        `entry` is the file that a loader looks for first. It is moved last and an old one goes first, so that a folder
        without it is known not to be whole.
        """
        (self._folder / entry).unlink(missing_ok=True)
        for name in stale:
            (self._folder / name).unlink(missing_ok=True)
        files = [path for path in self.path.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path.name == entry, path)):
            target = self._folder / path.relative_to(self.path)
            target.parent.mkdir(exist_ok=True)
            path.replace(target)
        self.discard()
