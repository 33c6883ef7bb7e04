"""What each of Python's functions on files does where a shadow stands for the files.

The first argument is the function itself, before it was replaced; paths are absolute. Errors are those of the function.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from typing import Any

from autofit.worker.script.isolation.shadow_tree import Shadow, ShadowEntries

Paths = tuple[Any, Any]  # as they were given, from and to
Places = tuple["str | None", "str | None"]  # as the shadow knows them; None where a path is none of its

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class ShadowFiles:
    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow

    def open(self, real: Callable[..., Any], path: str, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set("wax+") & set(mode):
            return real(self._shadow.seen(path), mode, *args, **kwargs)
        self._refuse_existing(path, "x" in mode)
        return real(self._writable(path, is_emptied="w" in mode), mode, *args, **kwargs)

    def open_low(self, real: Callable[..., int], path: str, flags: int, *args: Any, **kwargs: Any) -> int:
        if not flags & _WRITES:
            return real(self._shadow.seen(path), flags, *args, **kwargs)
        self._refuse_existing(path, bool(flags & os.O_CREAT and flags & os.O_EXCL))
        return real(self._writable(path, is_emptied=bool(flags & os.O_TRUNC)), flags, *args, **kwargs)

    def _writable(self, path: str, *, is_emptied: bool) -> str:
        """The copy to write to; a link is followed, as an open does."""
        path = os.path.realpath(path) if os.path.islink(self._shadow.seen(path)) else path
        if os.path.isdir(self._shadow.seen(path)):
            return self._shadow.seen(path)  # which cannot be opened to be written
        return self._shadow.place(path) if is_emptied else self._shadow.copied(path)

    def read(self, real: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
        return real(self._shadow.seen(path), *args, **kwargs)

    def chdir(self, real: Callable[..., None], path: str) -> None:
        real(self._shadow.entered(path))

    def change(self, real: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
        return real(self._shadow.copied(path), *args, **kwargs)

    def mkdir(self, real: Callable[..., None], path: str, *args: Any, **kwargs: Any) -> None:
        self._refuse_existing(path, True)
        real(self._shadow.place(path), *args, **kwargs)

    def remove(self, real: Callable[..., None], path: str, **_: Any) -> None:
        seen = self._shadow.seen(path)
        if os.path.isdir(seen) and not os.path.islink(seen):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        os.lstat(seen)  # FileNotFoundError
        self._shadow.remove(path)

    def rmdir(self, real: Callable[..., None], path: str, **_: Any) -> None:
        if self._shadow.names(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._shadow.remove(path)

    def rmtree(self, real: Callable[..., None], path: str, ignore_errors: bool = False, *_: Any, **__: Any) -> None:
        if not self._shadow.is_there(path):
            if ignore_errors:
                return
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._shadow.remove(path)

    def rename(self, real: Callable[..., None], paths: Paths, places: Places) -> None:
        source, target = places
        copy = paths[0] if source is None else self._shadow.copied(source)
        os.lstat(copy)  # FileNotFoundError
        real(copy, paths[1] if target is None else self._shadow.place(target))
        if source is not None:
            self._shadow.forget(source)

    def symlink(self, real: Callable[..., None], source: Any, path: str) -> None:
        self._refuse_existing(path, True)
        real(source, self._shadow.place(path))

    def link(self, real: Callable[..., None], paths: Paths, places: Places) -> None:
        """Makes a copy instead: the two names would be of one file."""
        source, target = places
        if target is not None:
            self._refuse_existing(target, True)
        copy = paths[1] if target is None else self._shadow.place(target)
        shutil.copy2(paths[0] if source is None else self._shadow.seen(source), copy)

    def listdir(self, real: Callable[..., Any], path: str) -> list[str]:
        return self._shadow.names(path)

    def scandir(self, real: Callable[..., Any], path: str) -> Any:
        if not self._shadow.is_touched(path):
            return real(path)
        return ShadowEntries(self._shadow, path)

    def _refuse_existing(self, path: str, is_refused: bool) -> None:
        if is_refused and self._shadow.is_there(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
