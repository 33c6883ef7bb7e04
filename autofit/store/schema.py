"""The tables, and how a file gets them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .location import check_private

SCHEMA = 1
BUSY_TIMEOUT_S = 5.0

_TABLES = {
    "trace": "(fingerprint TEXT, micro_step TEXT, at_s REAL, body BLOB, PRIMARY KEY (fingerprint, micro_step))",
    "trial": """(
        id TEXT PRIMARY KEY, key TEXT, at_s REAL, model TEXT, request TEXT, machine TEXT, strategy TEXT, outcome TEXT,
        is_rehearsal INTEGER, tokens_per_s REAL, peak_bytes INTEGER, device_memory_bytes INTEGER,
        facts BLOB, body BLOB
    )""",
    "constants": "(device TEXT PRIMARY KEY, at_s REAL, body BLOB)",
}


def connect(path: Path) -> sqlite3.Connection:
    """Opens the file with its tables, made when it is missing; sqlite3.Error or OSError when it is of no use.

    Each statement is its own transaction and waits for other processes. The journal is SQLite's oldest kind, since the
    newer one (WAL) neither works on the network file systems that homes lie on nor reads in a folder without writing.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(path)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        if _version(connection) != SCHEMA:
            _prepare(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    """The schema of a file; NotSupportedError for a newer one."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA:
        raise sqlite3.NotSupportedError(f"a newer autofit wrote it, with schema {version}; this one reads {SCHEMA}")
    return version


def _prepare(connection: sqlite3.Connection) -> None:
    """Makes new tables in the place of those of an older schema: what they held can be measured again."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if _version(connection) == SCHEMA:  # another process was faster
            return
        for name, columns in _TABLES.items():
            connection.execute(f"DROP TABLE IF EXISTS {name}")
            connection.execute(f"CREATE TABLE {name} {columns}")
        connection.execute("CREATE INDEX trial_key ON trial (key)")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
