"""What the control groups allow this process: memory and cores, cgroup v1 and v2, its own group and all above it.

`root` is the file system's root, so that a recorded tree can stand in for it. A limit that is not set is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryLimit:
    """A group's limit and what it holds that the kernel cannot simply drop."""

    limit_bytes: int
    held_bytes: int

    @property
    def left_bytes(self) -> int:
        return max(0, self.limit_bytes - self.held_bytes)


def memory_limits(root: Path) -> tuple[MemoryLimit, ...]:
    """Every memory limit over this process; the smallest `left_bytes` is what it can still get."""
    found = [_memory_v2(group) for group in _groups(root, "")]
    found += [_memory_v1(group) for group in _groups(root, "memory")]
    return tuple(limit for limit in found if limit is not None)


def core_limits(root: Path) -> tuple[float, ...]:
    """Every quota over this process, in cores."""
    found = [_quota(*_words(group / "cpu.max")) for group in _groups(root, "")]
    for group in _groups(root, "cpu"):
        found.append(_quota(*_words(group / "cpu.cfs_quota_us")[:1], *_words(group / "cpu.cfs_period_us")[:1]))
    return tuple(quota for quota in found if quota is not None)


def oom_kill_count(root: Path = Path("/")) -> int | None:
    """How many processes of this group the kernel has killed for want of memory; None when it does not say.

    It only ever grows: compare the count before and after a process died of SIGKILL.
    """
    events = [group / "memory.events" for group in _groups(root, "")]
    events += [group / "memory.oom_control" for group in _groups(root, "memory")]
    counts = (_field(path, "oom_kill") for path in events)
    return next((count for count in counts if count is not None), None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's group and of those above it, nearest first; controller "" is the v2 hierarchy."""
    for controllers, path in _memberships(root):
        if controller not in controllers.split(","):
            continue
        mounts = ("", "unified") if controller == "" else (controllers, controller)
        for mount in dict.fromkeys(mounts):
            yield from _upwards(root / _MOUNTS / mount, path)


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    for line in _text(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield parts[1], parts[2]


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    # A container may see the host's path here but only its own group under the mount: some folders do not exist.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _memory_v2(group: Path) -> MemoryLimit | None:
    # memory.current counts cached file pages; those on the inactive list are given up before anything is killed.
    return _memory(group / "memory.max", group / "memory.current", _field(group / "memory.stat", "inactive_file"))


def _memory_v1(group: Path) -> MemoryLimit | None:
    cached_bytes = _field(group / "memory.stat", "total_inactive_file")
    return _memory(group / "memory.limit_in_bytes", group / "memory.usage_in_bytes", cached_bytes)


def _memory(limit_file: Path, usage_file: Path, cached_bytes: int | None) -> MemoryLimit | None:
    limit, usage = _text(limit_file).strip(), _text(usage_file).strip()
    if not limit.isdecimal():  # "max", or no such file
        return None
    used_bytes = int(usage) if usage.isdecimal() else 0
    return MemoryLimit(int(limit), max(0, used_bytes - (cached_bytes or 0)))


def _quota(quota_us: str = "", period_us: str = "") -> float | None:
    if not quota_us.isdecimal() or not period_us.isdecimal():  # "max", "-1", or no such file
        return None
    return int(quota_us) / int(period_us) if int(period_us) else None


def _field(path: Path, name: str) -> int | None:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return None


def _words(path: Path) -> list[str]:
    return _text(path).split()[:2]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # the other version of cgroups, the root group, or no Linux at all
        return ""
