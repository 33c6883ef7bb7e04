"""Which cases of the large tables stand for the others in a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any

import pytest
from _pytest.mark import ParameterSet

COUNT = 16  # about two minutes
MOST_OF_A_FILE = 6  # of one large table, so that the others keep their part


def with_matrix(always: Iterable[Any], drawn_from: Iterable[Any]) -> Iterator[ParameterSet]:
    """Parameters of a test, a tuple where it has several: those that always run, and those of the matrix."""
    for values, marks in ((always, ()), (drawn_from, (pytest.mark.matrix, pytest.mark.slow))):
        for value in values:
            yield pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=marks)


def drawn(names: Sequence[str], seed: str) -> set[str]:
    """COUNT of them, not too many of one file; the same ones for the same seed and other ones for another."""
    taken: Counter[str] = Counter()
    chosen: set[str] = set()
    for name in sorted(names, key=lambda name: sha256(f"{seed} {name}".encode()).digest()):
        file = name.partition("::")[0]
        if len(chosen) < COUNT and taken[file] < MOST_OF_A_FILE:
            taken[file] += 1
            chosen.add(name)
    return chosen
