"""Linux's mounts, as far as a copy-on-write view needs them. Every call raises OSError where it is not allowed."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

from autofit.process.mount import mounts

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
_VIRTUAL = {
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
    "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "squashfs", "sysfs",
    "tracefs",
}  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class MountPoint:
    """A place where something is mounted."""

    path: str
    is_written: bool  # files are kept there, and may be changed


def mount_points() -> tuple[MountPoint, ...]:
    """The mount points of this process, each path once, parents first."""
    found = {str(mount.point): mount.is_writable and mount.filesystem not in _VIRTUAL for mount in mounts()}
    return tuple(MountPoint(path, found[path]) for path in sorted(found))


def enter_private_namespace(*, as_user: bool) -> None:
    """Enters a namespace in which what is mounted from here on is this process's and its children's alone.

    `as_user`: within a user namespace, where nobody is root outside.
    """
    user, group = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if as_user else 0)))
    if as_user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)


def join_namespaces(pid: int, *, as_user: bool) -> None:
    """Joins the namespaces of process `pid`, which has entered private ones; this process must have one thread."""
    for name in ("user", "mnt") if as_user else ("mnt",):
        descriptor = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
        try:
            _check(_libc.setns(descriptor, 0))
        finally:
            os.close(descriptor)


def mount_memory(path: str, *, options: str) -> None:
    """Mounts a tmpfs at `path`."""
    _mount("autofit", path, "tmpfs", 0, options)


def mount_overlay(path: str, lower: int, room: int, name: str, *, as_user: bool) -> None:
    """Mounts an overlay: `path` shows the folder open at `lower`, and changes go to the folders `name` below `room`."""
    for kind in ("upper", "work"):
        os.mkdir(f"{kind}{name}", dir_fd=room)
    options = (
        f"lowerdir={_open_path(lower)},upperdir={_open_path(room)}/upper{name},workdir={_open_path(room)}/work{name}"
    )
    _mount("autofit", path, "overlay", 0, options + (",userxattr" if as_user else ",redirect_dir=on"))


def mount_again(path: str, original: int) -> None:
    """Mounts what is open at `original` at `path`, with all that is mounted below it."""
    _mount(_open_path(original), path, None, _MS_BIND | _MS_REC)


def _open_path(descriptor: int) -> str:
    """A path without a character that the options of a mount know, and that no later mount hides."""
    return f"/proc/self/fd/{descriptor}"


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, options)]
    _check(_libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), target)


def _check(result: int, path: str | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
