"""Locks of torch's builds: told from other files, their holders found, taken away when nobody can be at the build."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autofit.process import host_processes
from autofit.process.build_locks import build_lock, stale_locks
from autofit.process.build_locks.build_lock import BuildLock, Owner, build_locks, owner_of
from autofit.process.build_locks.stale_locks import STALE_S, drop_abandoned, taking_locks_of
from autofit.process.child import Child
from autofit.process.host_processes import HiddenProcess, may_use_torch
from autofit.process.mount import Mount, mount_of
from tests.build_process import Builder, builder_command, building, left_lock
from tests.waiting import wait_until


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch builds."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "builds"))
    monkeypatch.setattr(stale_locks, "SETTLE_S", 0.05)
    return tmp_path / "builds"


class FakeProc:
    """A /proc in which the build folder is mounted as one likes, and nobody runs."""

    def __init__(self, folder: Path, *, is_container: bool = False) -> None:
        self.folder = folder
        (folder / "self/ns").mkdir(parents=True)
        (folder / "self/ns/pid").symlink_to("pid:[4026532198]" if is_container else "pid:[4026531836]")
        self.mounts = ["22 1 254:0 / / rw,relatime - ext4 /dev/vda rw"]
        self._write()

    def mount(self, point: Path, kind: str) -> None:
        escaped = str(point).replace(" ", "\\040")
        self.mounts.append(f"30 22 0:50 /export {escaped} rw,relatime shared:7 - {kind} server:/export rw")
        self._write()

    def process(self, number: int, *, uid: int, resident_kb: int) -> None:
        (self.folder / str(number)).mkdir()
        status = f"Name:\tsshd\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nVmRSS:\t   {resident_kb} kB\nVmSwap:\t       0 kB\n"
        (self.folder / str(number) / "status").write_text(status)

    def _write(self) -> None:
        (self.folder / "self/mountinfo").write_text("\n".join(self.mounts) + "\n")


def lock_at(path: Path) -> BuildLock:
    lock = BuildLock.at(path)
    assert lock is not None
    return lock


def old(path: Path, age_s: float) -> None:
    os.utime(path, (time.time() - age_s,) * 2)


# --- what is a lock, and whose ----------------------------------------------------------------------------------------


def test_the_lock_of_a_builder_that_was_killed_is_dropped_at_once_and_a_living_ones_never(root: Path) -> None:
    lost = left_lock(root / "lost")
    with building(root / "built") as builder:
        old(builder.lock, 2 * STALE_S)
        assert owner_of(lock_at(builder.lock)) == Owner(builder.process.pid)
        assert owner_of(lock_at(lost)).is_gone
        drop_abandoned()
        assert not lost.exists()
        assert builder.lock.exists()
        builder.release()
    assert build_locks() == ()


def test_a_builder_that_is_about_to_remove_its_lock_does_so_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes the lock a moment before: what was left for that moment must not be taken for lost."""
    lock = left_lock(root / "op")
    monkeypatch.setattr(stale_locks.time, "sleep", lambda _: lock.unlink())
    drop_abandoned()  # and no error


def test_a_lock_that_came_after_the_look_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = left_lock(root / "op")
    seen = lock_at(path)
    path.unlink()
    path.touch()
    os.utime(path, ns=(1, seen.identity[2] + 1))
    seen.remove()
    assert path.exists()


def test_only_torchs_locks_are_touched(root: Path) -> None:
    others = [root / "lock", root / "op/deeper/lock", root / "op/lock.txt", root / "full/lock"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("3172\n" if path.parent.name == "full" else "")
    drop_abandoned()
    assert all(path.exists() for path in others)
    assert build_locks() == ()


def test_the_locks_of_one_extension(root: Path) -> None:
    left_lock(root / "one")
    two = left_lock(root / "two")
    assert [lock.path for lock in build_locks("two")] == [two]
    assert lock_at(two).extension == "two"


def test_a_compiler_that_has_lost_its_python_is_still_at_the_build(root: Path, tmp_path: Path) -> None:
    lock = left_lock(root / "op")
    sleep = shutil.which("sleep")
    assert sleep is not None
    (tmp_path / "ninja").symlink_to(sleep)
    compiling = subprocess.Popen([str(tmp_path / "ninja"), "600"], cwd=lock.parent)
    try:
        assert owner_of(lock_at(lock)) == Owner(compiling.pid)
    finally:
        compiling.kill()
        compiling.wait()
    assert owner_of(lock_at(lock)).is_gone


# --- where nobody can be sure -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "is_container", "is_certain"),
    [
        ("ext4", False, True),
        ("tmpfs", True, True),
        ("nfs4", False, False),  # a builder may run on another host
        ("fuse.sshfs", False, False),
        ("ext4", True, False),  # or in another container that has the same folder
    ],
)
def test_who_may_be_out_of_sight_is_not_gone(
    kind: str, is_container: bool, is_certain: bool, root: Path, tmp_path: Path
) -> None:
    proc = FakeProc(tmp_path / "proc", is_container=is_container)
    proc.mount(root, kind)
    lock = lock_at(left_lock(root / "op"))
    assert owner_of(lock, proc.folder) == Owner(None, is_certain)


def test_a_containers_own_disk_is_nobody_elses(root: Path, tmp_path: Path) -> None:
    proc = FakeProc(tmp_path / "proc", is_container=True)
    assert owner_of(lock_at(left_lock(root / "op")), proc.folder).is_gone


def test_a_lock_on_a_network_disk_is_dropped_by_its_age(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_lock, "mount_of", lambda folder, proc: Mount(root, "nfs4", is_writable=True))
    lock = left_lock(root / "op")
    old(lock, STALE_S - 60)
    drop_abandoned()
    assert lock.exists()
    old(lock, STALE_S + 60)
    drop_abandoned()
    assert not lock.exists()


@pytest.mark.parametrize(("resident_kb", "is_certain"), [(9_000, True), (400_000, False)])
def test_a_process_that_hides_counts_only_where_torch_has_room_in_it(
    resident_kb: int, is_certain: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hide(process_id: int, proc: Path) -> list[str]:
        raise HiddenProcess

    monkeypatch.setattr(build_lock, "open_paths", hide)
    proc = FakeProc(tmp_path / "proc")
    proc.process(41, uid=os.getuid(), resident_kb=resident_kb)
    proc.process(42, uid=os.getuid() + 1, resident_kb=900_000)  # another user's is not the owner of our lock
    assert owner_of(lock_at(left_lock(root / "op")), proc.folder) == Owner(None, is_certain)


def test_a_process_that_has_ended_is_no_builder() -> None:
    assert not may_use_torch(2**22 + 1, os.getuid())
    assert list(host_processes.open_paths(2**22 + 1)) == []


def test_the_mount_of_a_folder_is_the_last_of_the_nearest(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path / "proc")
    proc.mount(tmp_path / "a b", "xfs")
    proc.mount(tmp_path / "a b", "nfs")
    proc.mount(tmp_path / "a b" / "c", "btrfs")
    found = mount_of(tmp_path / "a b" / "d", proc.folder)
    assert found == Mount(tmp_path / "a b", "nfs", is_writable=True)
    assert not found.is_local
    assert mount_of(tmp_path, proc.folder) == Mount(Path("/"), "ext4", is_writable=True)
    assert mount_of(tmp_path, tmp_path / "nowhere") is None


# --- at the end of processes ------------------------------------------------------------------------------------------

# As an agent: what is at the build runs below it, in a session of its own.
_STARTS_A_BUILDER = """
import subprocess, sys
subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True).wait()
"""


def test_who_is_killed_takes_the_locks_of_all_below_along(root: Path, tmp_path: Path) -> None:
    (root / "op").mkdir(parents=True)
    with building(root / "other") as other, (tmp_path / "log").open("wb") as log:
        child = Child([sys.executable, "-c", _STARTS_A_BUILDER, *builder_command(root / "op/lock")], log)
        wait_until(lambda: (tmp_path / "log").read_text().endswith("\n"))
        builder = int((tmp_path / "log").read_text())
        with taking_locks_of(child.pid):
            assert (root / "op/lock").exists()
            os.kill(builder, signal.SIGKILL)
            child.kill()
        assert [lock.path for lock in build_locks()] == [other.lock]


def test_a_child_that_is_ended_takes_its_locks_along_and_one_that_releases_them_has_none(
    root: Path, tmp_path: Path
) -> None:
    (root / "op").mkdir(parents=True)
    with (tmp_path / "log").open("wb") as log:
        child = Child(builder_command(root / "op/lock"), log, stdin=subprocess.PIPE)
    wait_until(lambda: (tmp_path / "log").read_text().endswith("\n"))
    assert child.end(0.0) == -signal.SIGKILL
    assert build_locks() == ()
    with building(root / "op") as builder, taking_locks_of(builder.process.pid):
        builder.release()
        again = Builder(root / "op")
    assert again.lock.exists()  # it is another's by now
    again.release()


def test_what_is_still_held_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale_locks, "_DYING_S", 0.05)
    with building(root / "op") as builder:
        with taking_locks_of(builder.process.pid):
            pass  # and it lives on
        assert builder.lock.exists()
