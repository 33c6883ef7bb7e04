"""The extensions that torch compiles at first use."""

from __future__ import annotations

import os
import time
from pathlib import Path

STALE_LOCK_S = 900.0
"""A build takes 40 s on two cores. Who died in the middle of one leaves its lock, for which torch waits for ever."""


def drop_stale_locks(now_s: float | None = None) -> None:
    """Removes the locks of builds that nobody can still be at; `now_s` in seconds since 1970."""
    from torch.utils.cpp_extension import get_default_build_root

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    oldest_s = (time.time() if now_s is None else now_s) - STALE_LOCK_S
    for lock in (*root.glob("*/lock"), *root.glob("*/*/lock")):
        try:
            if lock.stat().st_mtime < oldest_s:
                lock.unlink()
        except FileNotFoundError:
            continue  # its build ended meanwhile
