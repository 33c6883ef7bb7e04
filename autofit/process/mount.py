"""The file system that a folder lies on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from autofit.process.host_processes import PROC

# Those that no other host writes to. What is not among them may be a network's, or a cluster's.
_LOCAL = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
_OF_ITS_OWN = {"ramfs", "tmpfs"}


@dataclass(frozen=True)
class Mount:
    """A mount whose `filesystem` is the type that the kernel calls it by."""

    point: Path
    filesystem: str
    is_writable: bool

    @property
    def is_local(self) -> bool:
        """Whether only this host writes there."""
        return self.filesystem in _LOCAL

    @property
    def is_containers_own(self) -> bool:
        """Whether, within a container, no other one, and nothing outside, is likely to write there."""
        return self.point == Path("/") or self.filesystem in _OF_ITS_OWN


def mounts(proc: Path = PROC) -> list[Mount]:
    """The mounts of this process, the later over the earlier; OSError where the kernel does not say."""
    return [_read(line) for line in (proc / "self/mountinfo").read_text().splitlines()]


def mount_of(folder: Path, proc: Path = PROC) -> Mount | None:
    """The mount of `folder`, None where the kernel does not say."""
    real = Path(os.path.realpath(folder))
    try:
        above = [mount for mount in mounts(proc) if real.is_relative_to(mount.point)]
    except OSError:
        return None
    return max(
        reversed(above), key=lambda mount: len(mount.point.parts), default=None
    )  # the last of two covers the first


def _read(line: str) -> Mount:
    """Reads one line of mountinfo (proc_pid_mountinfo(5)): the type stands after a lone dash, blanks are octal."""
    before, _, after = line.partition(" - ")
    words = before.split()
    point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[4])
    return Mount(Path(point), after.split()[0], "rw" in words[5].split(","))
