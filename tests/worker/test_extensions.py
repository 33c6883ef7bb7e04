"""Locks of builds that died."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from autofit.worker.extensions import STALE_LOCK_S, drop_stale_locks


def test_only_a_lock_that_nobody_can_hold_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    locks = [tmp_path / "one" / "lock", tmp_path / "py311_cpu" / "other" / "lock"]
    for lock in locks:
        lock.parent.mkdir(parents=True)
        lock.touch()
    drop_stale_locks(time.time())
    assert all(lock.exists() for lock in locks)
    drop_stale_locks(time.time() + 2 * STALE_LOCK_S)
    assert not any(lock.exists() for lock in locks)
