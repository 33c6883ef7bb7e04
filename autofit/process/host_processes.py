"""The processes of this host, as Linux shows them in /proc: what they have open, and who comes from whom."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of linux/proc_ns.h
_ROUNDS = 5
_IMPORTED_TORCH_BYTES = 64 * 2**20  # a process that has imported torch takes three times as much


class HiddenProcess(Exception):
    """What a process has open is hidden from us."""


def sees_all(proc: Path = PROC) -> bool:
    """Whether every process of the host is listed: within a container only its own are."""
    try:
        return os.readlink(proc / "self/ns/pid") == _FIRST_NAMESPACE
    except OSError:
        return False


def process_ids(proc: Path = PROC) -> list[int]:
    return [int(name) for name in os.listdir(proc) if name.isdigit()]


def open_paths(process_id: int, proc: Path = PROC) -> Iterator[str]:
    """A path in `proc` for each file that it has open, to be read with `os.readlink` and `os.stat`.

    Nothing once it has ended; HiddenProcess where it is hidden.
    """
    folder = proc / str(process_id) / "fd"
    try:
        yield from (f"{folder}/{number}" for number in os.listdir(folder))
    except (FileNotFoundError, ProcessLookupError):
        return
    except PermissionError:
        raise HiddenProcess from None


def may_use_torch(process_id: int, user_id: int, proc: Path = PROC) -> bool:
    """Whether a process that hides what it has open can be one of the user's with torch in it.

    Every login leaves some that hide and are far too small for that: sshd, ssh-agent, the session's PAM.
    """
    try:
        lines = (proc / str(process_id) / "status").read_text().splitlines()
    except OSError:
        return False  # it has ended
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    size_bytes = sum(int(status.get(name, "0").split()[0]) * 1024 for name in ("VmRSS", "VmSwap"))
    return str(user_id) in status["Uid"].split() and size_bytes >= _IMPORTED_TORCH_BYTES


def works_in(process_id: int, name: str, folder: Path, proc: Path = PROC) -> bool:
    """Whether it is a program called `name` with `folder` as its working directory."""
    place = proc / str(process_id)
    try:
        return (place / "comm").read_text().strip() == name and (place / "cwd").samefile(folder)
    except OSError:
        return False  # ended, or hidden


def family(process_id: int, proc: Path = PROC) -> frozenset[int]:
    """The process, the session that it leads, and everything that these have started, in sessions of their own or
    not."""
    known = {each: _parent_and_session(each, proc) for each in process_ids(proc)}
    members, more = {process_id}, {process_id}
    while more:
        members |= more
        more = {each for each, above in known.items() if each not in members and members.intersection(above)}
    return frozenset(members)


def kill_sessions(leader_ids: Collection[int]) -> None:
    """Ends every process of the sessions that these lead, at once, whatever its process group.

    Ninja gives each compiler a group of its own. One that is started in this moment is found the next time around.
    """
    for _ in range(_ROUNDS):
        members = [each for each in process_ids() if _session_of_living(each) in leader_ids]
        if not members:
            return
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)


def _session_of_living(process_id: int) -> int | None:
    fields = stat_fields(process_id)
    return int(fields[3]) if fields and fields[0] not in "ZX" else None


def _parent_and_session(process_id: int, proc: Path) -> tuple[int, ...]:
    fields = stat_fields(process_id, proc)
    return (int(fields[1]), int(fields[3])) if fields else ()


def stat_fields(process_id: int, proc: Path = PROC) -> list[str]:
    """What the kernel tells of a process, from its state on, which is field 3 of proc_pid_stat(5); empty once it has
    ended and nobody waits to hear of it."""
    try:
        return (proc / str(process_id) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
