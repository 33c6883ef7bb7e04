"""A copy-on-write view of the file system: what a probe's ranks write, make, rename or remove is seen by them alone.

Overlays are mounted in a private mount namespace, as root or in a user namespace. The first rank of a node makes it and
the others join it, for they write the same files. Changes lie in memory and are gone with the last rank.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from autofit.process.files import write_whole
from autofit.worker.script.isolation.overlay_mounts import (
    MountPoint,
    enter_private_namespace,
    join_namespaces,
    mount_again,
    mount_memory,
    mount_overlay,
    mount_points,
)

_SYSTEM = tuple(
    f"/{name}"
    for name in ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "usr", "var")
)
_ROOM = "size=25%,mode=700"  # of the host's memory, at most
_JOIN_S = 60.0


@dataclass(frozen=True)
class OverlayView:
    """The view: `covered` are the folders whose changes are its own; empty where nothing could be mounted."""

    pid: int  # whose namespaces they are
    as_user: bool
    covered: tuple[str, ...]


def enter_view(place: Path, real: Sequence[str], directory: str, *, is_first: bool) -> OverlayView:
    """Enters the view of the ranks that share `place`, a folder of theirs: one of them is the first, and makes it.

    `real` are folders that stay as they are; where the view could not cover `directory` there is none.
    TimeoutError when the first has not made it.
    """
    told = place / "view.json"
    if is_first:
        view = _made(place, real, directory)
        write_whole(told, json.dumps(asdict(view), allow_nan=False))
        return view
    view = _told(told)
    if view.covered:
        join_namespaces(view.pid, as_user=view.as_user)
    return view


def _told(path: Path) -> OverlayView:
    deadline_s = time.monotonic() + _JOIN_S
    while not path.exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{path} is not there after {_JOIN_S:.0f} s: the first rank has not made its view")
        time.sleep(0.01)
    words = json.loads(path.read_text())
    return OverlayView(words["pid"], words["as_user"], tuple(words["covered"]))


def _made(place: Path, real: Sequence[str], directory: str) -> OverlayView:
    """Makes the view, with nothing covered where it is not allowed: that is tried in a child first, as it cannot be
    undone."""
    as_user = os.geteuid() != 0
    room = place / "view"
    room.mkdir(exist_ok=True)
    if os.environ.get("AUTOFIT_OVERLAY") == "0" or not _is_possible(room, real, directory, as_user):
        return OverlayView(os.getpid(), as_user, ())
    return OverlayView(os.getpid(), as_user, _cover(room, real, as_user))


def _is_possible(room: Path, real: Sequence[str], directory: str, as_user: bool) -> bool:
    child = os.fork()
    if child == 0:
        try:
            if not is_within(os.path.realpath(directory), _cover(room, real, as_user)):
                raise OSError(f"{directory} cannot be covered")
            if os.access(directory, os.W_OK):
                _write_in(Path(directory))
            os._exit(0)
        except BaseException as error:  # whatever it is, this process must not go on as a second rank
            os.write(1, f"no overlay: {type(error).__name__}: {error}\n".encode())
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _write_in(folder: Path) -> None:
    """Tries to write in the view: files of groups that a user namespace does not know cannot be copied."""
    trial = folder / f".autofit-{os.getpid()}"
    trial.mkdir()
    trial.rmdir()


def _cover(room: Path, real: Sequence[str], as_user: bool) -> tuple[str, ...]:
    """Mounts the view and gives the folders that it covers."""
    there = mount_points()
    below = {mount.path for mount in there}
    lower = {path for path in _folders(there, as_user) if not is_within(path, real)}
    enter_private_namespace(as_user=as_user)
    # Opened within the namespace, and before the first mount hides them.
    originals = _opened({*lower, *real, *below})
    mount_memory(str(room), options=_ROOM)
    inside = os.open(room, os.O_PATH | os.O_DIRECTORY)
    covered: list[str] = []
    for path in sorted({*lower, *below} & originals.keys()):
        if path in below and is_within(path, covered):
            mount_again(path, originals[path])
        if path in lower:
            with contextlib.suppress(OSError):  # a file system that can lie under no overlay
                mount_overlay(path, originals[path], inside, f"{originals[path]}", as_user=as_user)
                covered.append(path)
    for path in sorted(originals.keys() & set(real)):
        if is_within(path, covered):
            mount_again(path, originals[path])
    for descriptor in (*originals.values(), inside):
        os.close(descriptor)
    return tuple(covered)


def _opened(paths: Iterable[str]) -> dict[str, int]:
    """Descriptors of what can be opened."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):  # a mount that is not this user's, or has lost its server
            found[path] = os.open(path, os.O_PATH)
    return found


def _folders(there: Sequence[MountPoint], as_user: bool) -> Iterator[str]:
    """The folders to lay an overlay over. A user's may not hide a mount, so there the folders beside it are taken."""
    points = {mount.path for mount in there}

    def within(folder: str) -> Iterator[str]:
        hides = any(point.startswith(f"{folder.rstrip('/')}/") for point in points)
        if not hides or (folder != "/" and not as_user):
            yield folder
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and entry.path not in points and entry.path not in _SYSTEM:
                    yield from within(entry.path)

    for mount in there:
        if mount.is_written and not is_within(mount.path, _SYSTEM) and os.path.isdir(mount.path):
            yield from within(mount.path)


def is_within(path: str, folders: Sequence[str]) -> bool:
    """Whether `path` is one of `folders`, or below it."""
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
