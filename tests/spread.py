"""Which cases of the large tables stand for the others in a run."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

COUNT = 40  # two to three minutes


def drawn(names: Sequence[str], seed: str) -> set[str]:
    """COUNT of them, the same ones for the same seed and other ones for another."""
    return set(sorted(names, key=lambda name: sha256(f"{seed} {name}".encode()).digest())[:COUNT])
