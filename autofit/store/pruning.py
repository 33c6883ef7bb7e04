"""How much is remembered, and forgetting what is old or of no use."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .tables import has_facts


@dataclass(frozen=True)
class Counts:
    trial_count: int = 0
    trace_count: int = 0
    constants_count: int = 0

    def __str__(self) -> str:
        """What was forgotten, in words: `12 trials, 1 trace and 2 sets of constants`."""
        trials, traces = _plural(self.trial_count, "trial"), _plural(self.trace_count, "trace")
        return f"{trials}, {traces} and {_plural(self.constants_count, 'set')} of constants"


def count(connection: sqlite3.Connection) -> Counts:
    return Counts(*(_count(connection, table) for table in ("trial", "trace", "constants")))


def prune(connection: sqlite3.Connection, *, before_s: float, model: str | None) -> Counts:
    """Forgets what was written before `before_s`, seconds since 1970; of trials of `model` alone when it is named."""
    if model is not None:
        done = connection.execute("DELETE FROM trial WHERE at_s < ? AND model = ?", (before_s, model))
        removed = Counts(done.rowcount)
    else:
        removed = Counts(*(_delete(connection, table, before_s) for table in ("trial", "trace", "constants")))
        if has_facts(connection):
            _delete(connection, "model", before_s)  # a second's work each: not worth a word
    connection.execute("VACUUM")
    return removed


def _delete(connection: sqlite3.Connection, table: str, before_s: float) -> int:
    return connection.execute(f"DELETE FROM {table} WHERE at_s < ?", (before_s,)).rowcount


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
