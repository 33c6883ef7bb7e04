"""A probe apart from the user's files: what it changes is seen by its own ranks alone, and what escapes is noted."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from autofit.worker.script.isolation.file_redirection import FileRedirection
from autofit.worker.script.isolation.overlay_view import enter_view, is_within
from autofit.worker.script.isolation.real_folders import real_folders
from autofit.worker.script.isolation.shadow_tree import Shadow

TEMPORARY = "temporary"  # in a node's folder: begins the names of files that name a rank's temporary folder
_MANY = 20
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir": (0, 2), "os.rmdir": (0, 1), "os.remove": (0, 1), "os.rename": (1, 3)}
"""Audit events of CPython, with where their arguments have the path and the descriptor of a folder that it begins
in."""


class Escapes:
    """The paths that Python changed for real although they are not free; other programs are not heard."""

    def __init__(self, free: tuple[str, ...]) -> None:
        self._free = free
        self._paths: dict[str, None] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._paths)

    def listen(self) -> None:
        """Listens from here on in this process: an audit hook cannot be taken away."""
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        path = _changed(event, arguments)
        if isinstance(path, (str, bytes)) and len(self._paths) < _MANY:
            with contextlib.suppress(OSError):  # the working directory is gone: what was asked for will fail
                self._note(os.path.abspath(os.fsdecode(path)))

    def _note(self, path: str) -> None:
        if not is_within(path, self._free) and not is_within(os.path.realpath(path), self._free):
            self._paths.setdefault(path)


def _changed(event: str, arguments: tuple[object, ...]) -> object:
    """What an audit event changes, where that can be told."""
    if event == "open":
        flags = arguments[2]
        return arguments[0] if isinstance(flags, int) and flags & _WRITES else None
    if event not in _CHANGES:
        return None
    path_at, folder_at = _CHANGES[event]
    folder = arguments[folder_at]
    return arguments[path_at] if folder is None or folder == -1 else None


def isolate(scratch: Path, directory: str) -> Escapes:
    """Has this process, a rank, change files from here on in a view that it shares with the ranks of its node.

    `scratch` is the probe's own folder, and written for real. Where no overlay can be mounted, Python's functions are
    led to copies there.
    """
    sys.dont_write_bytecode = True  # which Python writes past its own functions
    place = scratch / f"node{os.environ['CROSS_RANK']}"
    real = real_folders(os.environ, scratch, directory)
    view = enter_view(place, real, directory, is_first=os.environ["LOCAL_RANK"] == "0")
    if not is_within(os.path.realpath(tempfile.gettempdir()), view.covered):
        real = (*real, _own_temporary_folder(place))
    free = (*view.covered, *real)
    FileRedirection(Shadow(str(place / "shadow")), lambda path: is_within(path, free)).begin()
    escapes = Escapes(free)
    escapes.listen()
    return escapes


def _own_temporary_folder(place: Path) -> str:
    """Makes a temporary folder out of the shadow: sockets and compilers need its true path. The agent removes it after
    the probe."""
    folder = tempfile.mkdtemp(prefix="autofit-rank-")
    (place / f"{TEMPORARY}{os.environ['RANK']}").write_text(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    return os.path.realpath(folder)
