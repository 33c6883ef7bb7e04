"""Python's functions that change files, led to a shadow of them: for where no overlay can be mounted.

What is written past them, by another program or a library's own code, is written for real.
"""

from __future__ import annotations

import builtins
import errno
import functools
import io
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

from autofit.worker.shadow import Shadow

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_READERS = ("access", "lstat", "readlink", "stat", "statvfs")
_FIRST_NAMES = ("path", "file")
_CHANGERS = ("chmod", "chown", "truncate", "utime")


class Diverting:
    """`is_free` tells of an absolute path whether a probe may write it for real."""

    def __init__(self, shadow: Shadow, is_free: Callable[[str], bool]) -> None:
        self._shadow = shadow
        self._is_free = is_free
        self._inside = threading.local()  # what this does itself is done for real

    def begin(self) -> None:
        """From here on, in this process."""
        builtins.open = io.open = self._on_path(io.open, self._open)
        self._put("open", self._open_low)
        for name in _READERS:
            self._put(name, self._read)
        for name in _CHANGERS:
            self._put(name, self._change)
        for name in ("rename", "replace"):
            self._place(name, self._on_both_paths(getattr(os, name)))
        for name in ("remove", "unlink"):
            self._put(name, self._remove)
        self._put("chdir", self._chdir)
        self._put("mkdir", self._mkdir)
        self._put("rmdir", self._rmdir)
        self._put("listdir", self._listdir)
        self._put("scandir", self._scandir)
        os.symlink = self._on_last_path(os.symlink, self._symlink)
        os.link = self._on_last_path(os.link, self._link)
        shutil.rmtree = self._on_path(shutil.rmtree, self._rmtree)

    def _put(self, name: str, divert: Callable[..., Any]) -> None:
        self._place(name, self._on_path(getattr(os, name), divert))

    def _place(self, name: str, function: Callable[..., Any]) -> None:
        setattr(os, name, function)
        accessor = getattr(pathlib, "_NormalAccessor", None)  # Python 3.10 keeps the functions that it found
        if accessor is not None and hasattr(accessor, name):
            setattr(accessor, name, staticmethod(io.open if name == "open" else function))

    def _on_path(self, real: Callable[..., Any], divert: Callable[..., Any]) -> Callable[..., Any]:
        """`divert(real, path, *arguments)` in place of `real(path, *arguments)`, for a path that is not free."""

        @functools.wraps(real)
        def diverted(*args: Any, **kwargs: Any) -> Any:
            named = next((name for name in _FIRST_NAMES if name in kwargs), None)
            path = args[0] if args else kwargs.get(named, ".")
            place = self._diverted(path) if kwargs.get("dir_fd") is None else None
            if place is None:
                return real(*args, **kwargs)
            if not args:
                kwargs.pop(named, None)
            return self._alone(divert, real, place, *args[1:], **kwargs)

        return diverted

    def _on_last_path(self, real: Callable[..., Any], divert: Callable[..., Any]) -> Callable[..., Any]:
        """The same where the second path is the one that is made."""

        @functools.wraps(real)
        def diverted(source: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
            place = self._diverted(path)
            if place is None:
                return real(source, path, *args, **kwargs)
            return self._alone(divert, real, source, place)

        return diverted

    def _on_both_paths(self, real: Callable[..., None]) -> Callable[..., None]:
        """Of a rename, where either may be free."""

        @functools.wraps(real)
        def diverted(src: Any, dst: Any, **folders: Any) -> None:
            places = (None, None) if any(folders.values()) else (self._diverted(src), self._diverted(dst))
            if places == (None, None):
                real(src, dst, **folders)
            else:
                self._alone(self._rename, real, (src, dst), places)

        return diverted

    def _alone(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._inside.now = True
        try:
            return call(*args, **kwargs)
        finally:
            self._inside.now = False

    def _diverted(self, path: Any) -> str | None:
        """The path as the shadow knows it; None where it is a descriptor, free, or this one's own affair."""
        if getattr(self._inside, "now", False) or not isinstance(path, (str, bytes, os.PathLike)):
            return None
        return self._alone(self._resolved, os.fsdecode(path))

    def _resolved(self, path: str) -> str | None:
        path = os.path.abspath(path)
        if self._is_free(path):
            return None
        folder, name = os.path.split(path)
        place = os.path.join(os.path.realpath(folder), name)
        return None if self._is_free(place) else place

    # --- one for each kind of function; `path` is the shadow's --------------------------------------------------------

    def _open(self, real: Callable[..., Any], path: str, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set("wax+") & set(mode):
            return real(self._shadow.seen(path), mode, *args, **kwargs)
        self._refuse_existing(path, "x" in mode)
        return real(self._writable(path, is_emptied="w" in mode), mode, *args, **kwargs)

    def _open_low(self, real: Callable[..., int], path: str, flags: int, *args: Any, **kwargs: Any) -> int:
        if not flags & _WRITES:
            return real(self._shadow.seen(path), flags, *args, **kwargs)
        self._refuse_existing(path, bool(flags & os.O_CREAT and flags & os.O_EXCL))
        return real(self._writable(path, is_emptied=bool(flags & os.O_TRUNC)), flags, *args, **kwargs)

    def _writable(self, path: str, *, is_emptied: bool) -> str:
        """A link is followed, as an open does."""
        path = os.path.realpath(path) if os.path.islink(self._shadow.seen(path)) else path
        if os.path.isdir(self._shadow.seen(path)):
            return self._shadow.seen(path)  # which cannot be opened to be written
        return self._shadow.place(path) if is_emptied else self._shadow.copied(path)

    def _read(self, real: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
        return real(self._shadow.seen(path), *args, **kwargs)

    def _chdir(self, real: Callable[..., None], path: str) -> None:
        real(self._shadow.entered(path))

    def _change(self, real: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
        return real(self._shadow.copied(path), *args, **kwargs)

    def _mkdir(self, real: Callable[..., None], path: str, *args: Any, **kwargs: Any) -> None:
        self._refuse_existing(path, True)
        real(self._shadow.place(path), *args, **kwargs)

    def _remove(self, real: Callable[..., None], path: str, **_: Any) -> None:
        seen = self._shadow.seen(path)
        if os.path.isdir(seen) and not os.path.islink(seen):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        os.lstat(seen)  # FileNotFoundError
        self._shadow.remove(path)

    def _rmdir(self, real: Callable[..., None], path: str, **_: Any) -> None:
        if self._shadow.names(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._shadow.remove(path)

    def _rmtree(self, real: Callable[..., None], path: str, ignore_errors: bool = False, *_: Any, **__: Any) -> None:
        if not self._shadow.is_there(path):
            if ignore_errors:
                return
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._shadow.remove(path)

    def _rename(self, real: Callable[..., None], paths: tuple[Any, Any], places: tuple[str | None, str | None]) -> None:
        source, target = places
        copy = paths[0] if source is None else self._shadow.copied(source)
        os.lstat(copy)  # FileNotFoundError
        real(copy, paths[1] if target is None else self._shadow.place(target))
        if source is not None:
            self._shadow.forget(source)

    def _symlink(self, real: Callable[..., None], source: Any, path: str) -> None:
        self._refuse_existing(path, True)
        real(source, self._shadow.place(path))

    def _link(self, real: Callable[..., None], source: Any, path: str) -> None:
        self._refuse_existing(path, True)
        place = self._resolved(os.fsdecode(source))
        shutil.copy2(os.fsdecode(source) if place is None else self._shadow.seen(place), self._shadow.place(path))

    def _listdir(self, real: Callable[..., Any], path: str) -> list[str]:
        return self._shadow.names(path)

    def _scandir(self, real: Callable[..., Any], path: str) -> Any:
        if not self._shadow.is_touched(path):
            return real(path)
        return _Entries(_Entry(name, os.path.join(path, name), self._shadow) for name in self._shadow.names(path))

    def _refuse_existing(self, path: str, is_refused: bool) -> None:
        if is_refused and self._shadow.is_there(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


class _Entries:
    """As `os.scandir` gives them."""

    def __init__(self, entries: Iterator[_Entry]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[_Entry]:
        return self._entries

    def __next__(self) -> _Entry:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...


class _Entry:
    """As `os.DirEntry`, of what the shadow shows."""

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
