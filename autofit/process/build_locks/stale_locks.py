"""Locks of torch's builds that nobody will release any more, taken away: at once where nobody can be at the build."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from autofit.process.build_locks.build_lock import BuildLock, Owner, build_locks, owner_of
from autofit.process.host_processes import family

STALE_S = 900.0
"""A build takes 40 s on two cores and minutes for CUDA: after this time a builder that nobody sees is gone."""

SETTLE_S = 1.0  # a builder closes its lock a moment before it removes it
_DYING_S = 5.0  # what was killed has this long to be gone
_POLL_S = 0.02


def is_over(lock: BuildLock, owner: Owner, now_s: float) -> bool:
    """Whether nobody is at the build any more. One whose builder may be out of sight counts as lost after `STALE_S`."""
    return owner.is_gone or (owner.process_id is None and lock.age_s(now_s) >= STALE_S)


def drop_abandoned() -> None:
    """Takes away the locks of builds that are over: for a process that waits for builds as torch does."""
    suspects = _over(build_locks())
    if not suspects:
        return
    time.sleep(SETTLE_S)
    for lock in _over(suspects):
        with suppress(PermissionError):  # whoever waits for it is told
            lock.remove()


def _over(locks: Collection[BuildLock]) -> list[BuildLock]:
    return [lock for lock in locks if is_over(lock, owner_of(lock), time.time())]


@contextmanager
def taking_locks_of(*process_ids: int) -> Iterator[None]:
    """Stands around the end of processes: the locks that they, or what they have started, hold now go with them."""
    held = _held_by(process_ids)
    try:
        yield
    finally:
        deadline_s = time.monotonic() + _DYING_S
        while held and time.monotonic() < deadline_s:
            for lock in [lock for lock in held if owner_of(lock).process_id is None]:
                lock.remove()
                held.remove(lock)
            time.sleep(_POLL_S if held else 0.0)


def _held_by(process_ids: Collection[int]) -> list[BuildLock]:
    locks = build_locks()
    if not locks:
        return []  # as nearly always: not a process is looked at
    members = frozenset().union(*map(family, process_ids))
    return [lock for lock in locks if owner_of(lock).process_id in members]
