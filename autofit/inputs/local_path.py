"""What lies at a path that a user named, and the nearest that does where nothing lies there."""

from __future__ import annotations

import difflib
import errno
import stat
from enum import Enum
from pathlib import Path

from autofit.domain.errors import UsageError

_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)
_MOST_NAMES = 10_000  # of a folder, that are compared with a wrong one
_OTHERS = (
    (stat.S_ISFIFO, "a pipe, which gives its content once, and it is read several times"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Lies(str, Enum):
    """What is at a path."""

    NOTHING = "nothing"
    FILE = "file"
    FOLDER = "folder"


def what_lies_at(name: str) -> Lies:
    """What lies at a path, a leading ~ being the user's home; UsageError for what cannot be looked at, and for what is
    neither a file nor a folder."""
    try:
        mode = Path(name).expanduser().stat().st_mode
    except (ValueError, RuntimeError):  # a NUL in it, or the home of nobody
        return Lies.NOTHING
    except OSError as error:
        if error.errno in _NOTHING:
            return Lies.NOTHING
        raise unreadable(name, error) from error
    if stat.S_ISDIR(mode):
        return Lies.FOLDER
    for is_one, what in _OTHERS:
        if is_one(mode):
            raise UsageError(f"{name} is {what}: name a file or a folder.")
    return Lies.FILE


def unreadable(name: str | Path, error: OSError) -> UsageError:
    """The error of a file or folder that is there and cannot be read."""
    if error.errno == errno.ELOOP:
        return UsageError(
            f"{name} is a symbolic link that leads back to itself: name the file or folder that is meant."
        )
    why = (error.strerror or str(error)).lower()
    return UsageError(f"{name} cannot be read ({why}): see to that there, or name another.")


def nearest_text(name: str) -> str:
    """A sentence, behind a space, that proposes what lies here under a name like this one; empty where nothing does."""
    near = nearest(name)
    return "" if near is None else f" The nearest here is {near}."


def nearest(name: str) -> str | None:
    """The path nearest to one at which nothing lies: each part that is not there becomes the name most like it; None
    where a folder has none like it."""
    try:
        wanted = Path(name).expanduser()
        found = Path(wanted.anchor)
        for part in wanted.parts[1 if wanted.anchor else 0 :]:
            near = part if part == ".." or (found / part).exists() else _like(found, part)
            if near is None:
                return None
            found /= near
    except (OSError, ValueError, RuntimeError):
        return None
    shown = str(found)
    return shown if found.is_absolute() or not name.startswith("./") else f"./{shown}"


def _like(folder: Path, name: str) -> str | None:
    """The name in a folder that is most like another."""
    if not folder.is_dir():
        return None
    names = [path.name for _, path in zip(range(_MOST_NAMES), folder.iterdir(), strict=False)]
    plain = {one.lower(): one for one in sorted(names) if not one.startswith(".")}
    near = difflib.get_close_matches(name.lower(), plain, n=1)
    return plain[near[0]] if near else None
