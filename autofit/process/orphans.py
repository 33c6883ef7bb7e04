"""Orphans below this process: in a module of its own, for it must be there before anything is started."""

from __future__ import annotations

import ctypes

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> None:
    """Adopts orphans: from now on a process below this one whose parent dies becomes a child of this one (Linux;
    elsewhere nothing)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
