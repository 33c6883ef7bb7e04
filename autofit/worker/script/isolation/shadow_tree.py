"""Copies in place of files: a tree under one folder that stands for what was changed, and marks for what was removed.

The ranks of a node share it, so everything is in the file system and nothing is remembered here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator


class Shadow:
    """The shadow of a file system; paths are absolute and without `..`."""

    def __init__(self, root: str) -> None:
        self._changed = os.path.join(root, "changed")
        self._gone = os.path.join(root, "gone")
        os.makedirs(self._changed, exist_ok=True)
        os.makedirs(self._gone, exist_ok=True)

    def seen(self, path: str) -> str:
        """The place where `path` is read: its copy, itself, or a place where nothing is."""
        copy = self._changed + path
        return copy if os.path.lexists(copy) or self._is_gone(path) else path

    def entered(self, folder: str) -> str:
        """The place where a process goes that enters `folder`: what is copied lies beside it, so itself where it is
        there."""
        return folder if os.path.isdir(folder) and not self._is_gone(folder) else self._changed + folder

    def is_there(self, path: str) -> bool:
        return os.path.lexists(self.seen(path))

    def is_touched(self, folder: str) -> bool:
        """Whether what it holds is not simply what lies there."""
        return os.path.lexists(self._changed + folder) or any(os.scandir(self._gone))

    def names(self, folder: str) -> list[str]:
        """What the folder holds; the errors are those of `os.listdir`."""
        copy = self._changed + folder
        if not os.path.lexists(copy):
            found = set(os.listdir(self.seen(folder)))
        else:
            is_below = os.path.isdir(folder) and not self._is_gone(folder)
            found = {*os.listdir(copy), *(os.listdir(folder) if is_below else ())}
        return sorted(name for name in found if self.is_there(os.path.join(folder, name)))

    def place(self, path: str) -> str:
        """The place for a new `path`; nothing can be made there where the script finds no folder to make it in."""
        folder = os.path.dirname(path)
        if os.path.isdir(self.seen(folder)):
            os.makedirs(self._changed + folder, exist_ok=True)
        return self._changed + path

    def copied(self, path: str) -> str:
        """The copy of `path` with its content; of a folder, with all below it."""
        source, copy = self.seen(path), self.place(path)
        if os.path.isdir(source):
            names = self.names(path)
            os.makedirs(copy, exist_ok=True)
            for name in names:
                self.copied(os.path.join(path, name))
        elif source != copy and os.path.lexists(source):
            shutil.copy2(source, copy, follow_symlinks=False)
        return copy

    def remove(self, path: str) -> None:
        """Removes a file, or a folder with all below it."""
        copy = self._changed + path
        if os.path.isdir(copy) and not os.path.islink(copy):
            shutil.rmtree(copy)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(copy)
        self.forget(path)

    def forget(self, path: str) -> None:
        """Hides what lies there for real."""
        if os.path.lexists(path):
            open(self._mark(path), "w").close()

    def _is_gone(self, path: str) -> bool:
        while path != "/" and not os.path.lexists(self._mark(path)):
            path = os.path.dirname(path)
        return path != "/"

    def _mark(self, path: str) -> str:
        return os.path.join(self._gone, hashlib.sha256(os.fsencode(path)).hexdigest())


class ShadowEntries:
    """What `os.scandir` gives of a folder."""

    def __init__(self, shadow: Shadow, folder: str) -> None:
        self._entries = iter([_Entry(name, os.path.join(folder, name), shadow) for name in shadow.names(folder)])

    def __iter__(self) -> Iterator[_Entry]:
        return self._entries

    def __next__(self) -> _Entry:
        return next(self._entries)

    def __enter__(self) -> ShadowEntries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Does nothing, for nothing is open."""


class _Entry:
    """An entry as `os.DirEntry`, of what the shadow shows."""

    def __init__(self, name: str, path: str, shadow: Shadow) -> None:
        self.name, self.path = name, path
        self._seen = shadow.seen(path)

    def __fspath__(self) -> str:
        return self.path

    def inode(self) -> int:
        return os.lstat(self._seen).st_ino

    def is_symlink(self) -> bool:
        return os.path.islink(self._seen)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return os.path.isdir(self._seen) and (follow_symlinks or not self.is_symlink())

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return os.path.isfile(self._seen) and (follow_symlinks or not self.is_symlink())

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(self._seen, follow_symlinks=follow_symlinks)
