"""Python's functions that change files, led to a shadow of them: for where no overlay can be mounted.

What is written past them, by another program or a library's own code, is written for real.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any

from autofit.worker.script.isolation.shadow_files import ShadowFiles
from autofit.worker.script.isolation.shadow_tree import Shadow

_READERS = ("access", "lstat", "readlink", "stat", "statvfs")
_FIRST_NAMES = ("path", "file")
_CHANGERS = ("chmod", "chown", "truncate", "utime")


class FileRedirection:
    """Redirects Python's functions; `is_free` tells of an absolute path whether a probe may write it for real."""

    def __init__(self, shadow: Shadow, is_free: Callable[[str], bool]) -> None:
        self._files = ShadowFiles(shadow)
        self._is_free = is_free
        self._inside = threading.local()  # what this does itself is done for real

    def begin(self) -> None:
        """Begins the redirection in this process."""
        builtins.open = io.open = self._on_path(io.open, self._files.open)
        self._put("open", self._files.open_low)
        for name in _READERS:
            self._put(name, self._files.read)
        for name in _CHANGERS:
            self._put(name, self._files.change)
        for name in ("rename", "replace"):
            self._place(name, self._on_both_paths(getattr(os, name), self._files.rename))
        for name in ("remove", "unlink"):
            self._put(name, self._files.remove)
        self._put("chdir", self._files.chdir)
        self._put("mkdir", self._files.mkdir)
        self._put("rmdir", self._files.rmdir)
        self._put("listdir", self._files.listdir)
        self._put("scandir", self._files.scandir)
        os.symlink = self._on_last_path(os.symlink, self._files.symlink)
        os.link = self._on_both_paths(os.link, self._files.link)
        shutil.rmtree = self._on_path(shutil.rmtree, self._files.rmtree)  # type: ignore[assignment]

    def _put(self, name: str, redirect: Callable[..., Any]) -> None:
        self._place(name, self._on_path(getattr(os, name), redirect))

    def _place(self, name: str, function: Callable[..., Any]) -> None:
        setattr(os, name, function)
        accessor = getattr(pathlib, "_NormalAccessor", None)  # Python 3.10 keeps the functions that it found
        if accessor is not None and hasattr(accessor, name):
            setattr(accessor, name, staticmethod(io.open if name == "open" else function))

    def _on_path(self, real: Callable[..., Any], redirect: Callable[..., Any]) -> Callable[..., Any]:
        """Puts `redirect(real, path, *arguments)` in place of `real(path, *arguments)`, for a path that is not free."""

        @functools.wraps(real)
        def redirected(*args: Any, **kwargs: Any) -> Any:
            named = next((name for name in _FIRST_NAMES if name in kwargs), "")
            path = args[0] if args else kwargs.get(named, ".")
            place = self._redirected(path) if kwargs.get("dir_fd") is None else None
            if place is None:
                return real(*args, **kwargs)
            if not args:
                kwargs.pop(named, None)
            return self._alone(redirect, real, place, *args[1:], **kwargs)

        return redirected

    def _on_last_path(self, real: Callable[..., Any], redirect: Callable[..., Any]) -> Callable[..., Any]:
        """Does the same where the second path is the one that is made."""

        @functools.wraps(real)
        def redirected(source: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
            place = self._redirected(path)
            if place is None:
                return real(source, path, *args, **kwargs)
            return self._alone(redirect, real, source, place)

        return redirected

    def _on_both_paths(self, real: Callable[..., None], redirect: Callable[..., None]) -> Callable[..., None]:
        """Does the same with two paths, of which one may be free: `redirect(real, paths, places)`."""

        @functools.wraps(real)
        def redirected(src: Any, dst: Any, **folders: Any) -> None:
            is_within_folder = any(folders.get(name) is not None for name in ("src_dir_fd", "dst_dir_fd"))
            places = (None, None) if is_within_folder else (self._redirected(src), self._redirected(dst))
            if places == (None, None):
                real(src, dst, **folders)
            else:
                self._alone(redirect, real, (src, dst), places)

        return redirected

    def _alone(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._inside.now = True
        try:
            return call(*args, **kwargs)
        finally:
            self._inside.now = False

    def _redirected(self, path: Any) -> str | None:
        """The path as the shadow knows it; None where it is a descriptor, free, or this one's own affair."""
        if getattr(self._inside, "now", False) or not isinstance(path, (str, bytes, os.PathLike)):
            return None
        place: str | None = self._alone(self._resolved, os.fsdecode(path))
        return place

    def _resolved(self, path: str) -> str | None:
        path = os.path.abspath(path)
        if self._is_free(path):
            return None
        folder, name = os.path.split(path)
        place = os.path.join(os.path.realpath(folder), name)
        return None if self._is_free(place) else place
