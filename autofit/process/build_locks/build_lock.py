"""The locks of torch's builds of extensions: which there are, and who is at the build.

torch makes an empty file `lock` in an extension's build folder, keeps it open while it builds, and closes and removes
it at the end (torch/utils/file_baton.py). A builder that is killed leaves it, and whoever wants the extension then
waits for ever.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from autofit.process.host_processes import (
    PROC,
    HiddenProcess,
    may_use_torch,
    open_paths,
    process_ids,
    sees_all,
    works_in,
)
from autofit.process.mount import mount_of

NAME = "lock"


@dataclass(frozen=True)
class BuildLock:
    """A lock whose `identity` tells it from a later one at the same path."""

    path: Path
    identity: tuple[int, int, int]  # device, inode, time of the last change (ns)
    user_id: int

    @staticmethod
    def at(path: Path) -> BuildLock | None:
        """The lock at `path`, None where no lock of torch's lies."""
        try:
            found = path.lstat()
        except OSError:
            return None
        is_lock = stat.S_ISREG(found.st_mode) and found.st_size == 0
        return BuildLock(path, _identity(found), found.st_uid) if is_lock else None

    @property
    def extension(self) -> str:
        return self.path.parent.name

    def age_s(self, now_s: float) -> float:
        """The age of the lock; `now_s` is in seconds since 1970."""
        return now_s - self.identity[2] / 1e9

    def remove(self) -> None:
        """Removes it, unless it has gone or another one has taken its place. PermissionError in another user's
        folder."""
        if BuildLock.at(self.path) == self:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Owner:
    """The one who is at a build; without a process it is sure to be nobody only if `is_certain`."""

    process_id: int | None
    is_certain: bool = True

    @property
    def is_gone(self) -> bool:
        return self.process_id is None and self.is_certain


def build_root() -> Path:
    """The folder in which torch builds (get_default_build_root of torch/utils/cpp_extension.py), known without
    importing it."""
    if own := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(own)
    cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    return Path(os.path.realpath(os.path.join(cache, "torch_extensions")))


def build_locks(extension: str = "*") -> tuple[BuildLock, ...]:
    """The locks that lie there now, of all extensions or of one."""
    version = "" if os.environ.get("TORCH_EXTENSIONS_DIR") else "*/"  # the default root has a folder for each
    found = map(BuildLock.at, build_root().glob(f"{version}{extension}/{NAME}"))
    return tuple(lock for lock in found if lock is not None)


def owner_of(lock: BuildLock, proc: Path = PROC) -> Owner:
    """The process that has it open, or the ninja that goes on in its folder after whoever started it."""
    is_certain = _shows_all(lock, proc)
    for process_id in process_ids(proc):
        try:
            if _is_at(process_id, lock, proc):
                return Owner(process_id)
        except HiddenProcess:
            is_certain = is_certain and not may_use_torch(process_id, lock.user_id, proc)
    return Owner(None, is_certain)


def _shows_all(lock: BuildLock, proc: Path) -> bool:
    """Whether no builder can be out of sight: on another host, in another container, or another user's."""
    mount = mount_of(lock.path.parent, proc)
    if mount is None or not mount.is_local or os.geteuid() not in (0, lock.user_id):
        return False
    return sees_all(proc) or mount.is_containers_own


def _is_at(process_id: int, lock: BuildLock, proc: Path) -> bool:
    has_it = any(_is_same(path, lock) for path in open_paths(process_id, proc))
    return has_it or works_in(process_id, "ninja", lock.path.parent, proc)


def _is_same(path: str, lock: BuildLock) -> bool:
    try:
        if not os.readlink(path).endswith(f"/{NAME}"):
            return False
        return _identity(os.stat(path)) == lock.identity
    except OSError:
        return False  # it has been closed


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_dev, found.st_ino, found.st_mtime_ns
