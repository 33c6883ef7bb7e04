"""Waiting for somebody else's build: said, with an end in every case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from autofit.process.build_locks import build_lock, build_wait
from autofit.process.build_locks.build_lock import BuildLock
from autofit.process.build_locks.build_wait import (
    LIMIT_S,
    BuildLocked,
    BuildWait,
    BuildWatch,
    WaitTeller,
    wait_until_free,
)
from autofit.process.build_locks.stale_locks import STALE_S
from autofit.process.mount import Mount
from tests.build_process import Builder, building, left_lock


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_wait, "SETTLE_S", 0.05)
    monkeypatch.setattr(build_wait, "_POLL_S", 0.01)
    monkeypatch.setattr(build_wait, "_JUDGE_S", 0.02)


class Clock:
    """Each look is as much later than the one before."""

    def __init__(self, step_s: float) -> None:
        self._step_s, self._now_s = step_s, 0.0

    def __call__(self) -> float:
        self._now_s += self._step_s
        return self._now_s


class Listener:
    """Does something, in a thread, once it is told for whom one waits."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._thread = Thread(target=act)
        self.heard: list[BuildWait] = []

    def __call__(self, wait: BuildWait) -> None:
        if not self.heard:
            self._thread.start()
        self.heard.append(wait)

    def join(self) -> None:
        self._thread.join()


def test_a_lock_is_waited_for_until_its_builder_releases_it(tmp_path: Path) -> None:
    with building(tmp_path / "op") as builder:
        listener = Listener(builder.release)
        assert wait_until_free(builder.lock, BuildWatch(listener, clock=Clock(1.0)))
        listener.join()
    assert listener.heard[0] == BuildWait("op", str(tmp_path / "op/lock"), builder.process.pid)


def test_a_builder_that_is_killed_meanwhile_is_seen_at_once(tmp_path: Path) -> None:
    with building(tmp_path / "op") as builder:
        listener = Listener(builder.kill)
        assert not wait_until_free(builder.lock, BuildWatch(listener, clock=Clock(1.0)))
        listener.join()
    assert not builder.lock.exists()


def test_a_lock_that_was_left_is_no_wait(tmp_path: Path) -> None:
    heard: list[BuildWait] = []
    assert not wait_until_free(left_lock(tmp_path / "op"), BuildWatch(heard.append, clock=Clock(1.0)))
    assert heard == []


def test_no_lock_is_free(tmp_path: Path) -> None:
    assert wait_until_free(tmp_path / "op/lock", BuildWatch(lambda wait: None))


def test_a_wait_has_a_limit_and_a_sentence(tmp_path: Path) -> None:
    with building(tmp_path / "op") as builder:
        with pytest.raises(BuildLocked) as error:
            wait_until_free(builder.lock, BuildWatch(lambda wait: None, clock=Clock(LIMIT_S / 3)))
        assert builder.lock.exists()
    assert str(error.value) == (
        f"process {builder.process.pid} has been at the build of torch's extension op for 15:00 and still holds its "
        f"lock {builder.lock}: look what it waits for, end it if it hangs, and start again."
    )


def test_the_limit_is_of_one_builder_and_not_of_all_that_come_one_after_the_other(tmp_path: Path) -> None:
    watch = BuildWatch(lambda wait: None, clock=Clock(LIMIT_S * 0.4))
    with building(tmp_path / "op") as first:
        assert not watch.is_over(_lock(first))
        first.release()
    with building(tmp_path / "op") as second:
        assert not watch.is_over(_lock(second))
        assert not watch.is_over(_lock(second))
        with pytest.raises(BuildLocked):
            watch.is_over(_lock(second))


def test_a_builder_out_of_sight_counts_as_lost_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_lock, "mount_of", lambda folder, proc: Mount(tmp_path, "nfs4", is_writable=True))
    heard: list[BuildWait] = []
    lock = left_lock(tmp_path / "op")
    assert not wait_until_free(lock, BuildWatch(heard.append, clock=Clock(STALE_S / 3)))
    assert heard[0].process_id is None
    assert not lock.exists()


def test_a_matter_of_a_moment_is_not_told(tmp_path: Path) -> None:
    heard: list[BuildWait] = []
    with building(tmp_path / "op") as builder:
        watch = BuildWatch(heard.append, clock=Clock(1.0))
        assert not any(watch.is_over(_lock(builder)) for _ in range(2))
    assert heard == []


def test_each_builder_is_told_once() -> None:
    told: list[str] = []
    teller = WaitTeller(told.append, "host a: ")
    first, second = (BuildWait("op", "/cache/op/lock", process) for process in (12, None))
    for wait in (first, first, second, second):
        teller(wait)
    assert told == [
        "host a: waiting for process 12, which is building torch's extension op (its lock is /cache/op/lock)",
        "host a: waiting for a build of torch's extension op by a process that cannot be seen from here; its lock "
        "/cache/op/lock counts as left behind after 15:00",
    ]


def _lock(builder: Builder) -> BuildLock:
    lock = BuildLock.at(builder.lock)
    assert lock is not None
    return lock
