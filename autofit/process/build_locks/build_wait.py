"""Waiting for a build of torch's that another process is at: with a limit, and with word for people."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autofit.domain.errors import UsageError
from autofit.domain.event import Tell
from autofit.domain.units import format_seconds
from autofit.process.build_locks.build_lock import BuildLock, owner_of
from autofit.process.build_locks.stale_locks import SETTLE_S, STALE_S, is_over


@dataclass(frozen=True)
class BuildWait:
    """A wait for another process that builds an extension; said every second, as a sign of life too."""

    extension: str
    lock_path: str
    process_id: int | None  # None: it cannot be seen from here


LIMIT_S = 900.0  # for a builder that lives: what takes longer hangs
_MOMENT_S = 3.0  # to find that all is built takes one
_POLL_S = 0.1  # as torch does
_JUDGE_S = 1.0

OnWait = Callable[[BuildWait], None]


class BuildLocked(UsageError):
    """A lock of torch's keeps a build from its start, and it is not ours to take away."""


class BuildWatch:
    """The watch of one wait: for whom, `on_wait` hears every second, once it is no matter of a moment.

    The limit counts for each builder anew: ranks that want the same come one after the other.
    """

    def __init__(
        self, on_wait: OnWait, *, limit_s: float = LIMIT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_wait, self._limit_s, self._clock = on_wait, limit_s, clock
        self._lock: BuildLock | None = None
        self._began_s = clock()

    def is_over(self, lock: BuildLock) -> bool:
        """Whether nobody is at the build any more; BuildLocked when somebody has been for too long."""
        if lock != self._lock:
            self._lock, self._began_s = lock, self._clock()
        owner, waited_s = owner_of(lock), self._clock() - self._began_s
        if is_over(lock, owner, time.time()) or (owner.process_id is None and waited_s >= STALE_S):
            return True
        wait = BuildWait(lock.extension, str(lock.path), owner.process_id)
        if waited_s >= self._limit_s:
            raise BuildLocked(_limit_text(wait, waited_s))
        if waited_s >= _MOMENT_S:
            self._on_wait(wait)
        return False


def wait_until_free(path: Path, watch: BuildWatch) -> bool:
    """Waits until the builder has removed its lock at `path` (True), or until it had to be taken away for it (False).

    BuildLocked, after the limit of `watch` or where the lock cannot be removed, says what to do.
    """
    ownerless: BuildLock | None = None
    while (lock := BuildLock.at(path)) is not None:
        if not watch.is_over(lock):
            ownerless = None
            _poll(path)
        elif lock != ownerless:
            ownerless = lock
            time.sleep(SETTLE_S)
        else:
            _remove(lock)
            return False
    return True


def _poll(path: Path) -> None:
    end_s = time.monotonic() + _JUDGE_S
    while path.exists() and time.monotonic() < end_s:
        time.sleep(_POLL_S)


def _remove(lock: BuildLock) -> None:
    try:
        lock.remove()
    except PermissionError:
        raise BuildLocked(
            f"{lock.path} is the lock of a build that nobody is at any more, in a folder where it cannot be removed: "
            "have it removed there, or set TORCH_EXTENSIONS_DIR to a folder of your own, and start again."
        ) from None


class WaitTeller:
    """Tells people for whom one waits: once for each, however often it is heard. Each text begins with `whose`."""

    def __init__(self, tell: Tell, whose: str = "") -> None:
        self._tell, self._whose = tell, whose
        self._last: BuildWait | None = None

    def __call__(self, wait: BuildWait) -> None:
        if wait != self._last:
            self._last = wait
            self._tell(self._whose + _wait_text(wait))


def _wait_text(wait: BuildWait) -> str:
    if wait.process_id is None:
        return (
            f"waiting for a build of torch's extension {wait.extension} by a process that cannot be seen from here; "
            f"its lock {wait.lock_path} counts as left behind after {format_seconds(STALE_S)}"
        )
    return (
        f"waiting for process {wait.process_id}, which is building torch's extension {wait.extension} "
        f"(its lock is {wait.lock_path})"
    )


def _limit_text(wait: BuildWait, waited_s: float) -> str:
    return (
        f"process {wait.process_id} has been at the build of torch's extension {wait.extension} for "
        f"{format_seconds(waited_s)} and still holds its lock {wait.lock_path}: look what it waits for, end it if it "
        "hangs, and start again."
    )
