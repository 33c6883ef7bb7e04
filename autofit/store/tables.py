"""The tables of traces and models' facts, by what they depend on, and of fitted constants, by kind of device and
versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import fields

from autofit.domain.codec import encode
from autofit.domain.estimate import Constants
from autofit.domain.model import ModelFacts
from autofit.domain.trace import MicroStep, Trace

from .machine_kind import DeviceKey
from .serialization import canonical, pack, unpack

_READ = "SELECT body FROM trace WHERE fingerprint = ? AND micro_step = ?"
# Came after the others: made when it is first written, so that a file without it can still be read.
_MODEL_TABLE = "CREATE TABLE IF NOT EXISTS model (fingerprint TEXT PRIMARY KEY, at_s REAL, body BLOB)"
_HAS_MODEL_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'model'"
_FIRST_DEFAULT = "capability"  # the one field of a micro-step that was written from the first with its default
_WRITE = "INSERT OR REPLACE INTO trace (fingerprint, micro_step, at_s, body) VALUES (?, ?, ?, ?)"


def read_traces(connection: sqlite3.Connection, fingerprint: str, micro_steps: Iterable[MicroStep]) -> Iterator[Trace]:
    """The traces that are there, in the order of `micro_steps`; one that this autofit cannot read counts as missing."""
    for micro_step in micro_steps:
        for (body,) in connection.execute(_READ, (fingerprint, _key(micro_step))):
            try:
                yield unpack(Trace, body)
            except ValueError:
                continue


def write_traces(connection: sqlite3.Connection, fingerprint: str, traces: Iterable[Trace], at_s: float) -> None:
    rows = [(fingerprint, _key(trace.of), at_s, pack(trace)) for trace in traces]
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        connection.executemany(_WRITE, rows)


def _key(micro_step: MicroStep) -> str:
    """The micro-step as its row is found by. Fields with a default came later: where they say nothing, older rows are
    found as well."""
    body = encode(micro_step)
    for field in fields(micro_step):
        if field.name != _FIRST_DEFAULT and getattr(micro_step, field.name) == field.default:
            del body[field.name]
    return canonical(body)


def read_facts(connection: sqlite3.Connection, fingerprint: str) -> ModelFacts | None:
    if not has_facts(connection):
        return None
    row = connection.execute("SELECT body FROM model WHERE fingerprint = ?", (fingerprint,)).fetchone()
    try:
        return None if row is None else unpack(ModelFacts, row[0])
    except ValueError:  # of a build that wrote it otherwise
        return None


def write_facts(connection: sqlite3.Connection, fingerprint: str, facts: ModelFacts, at_s: float) -> None:
    connection.execute(_MODEL_TABLE)
    connection.execute("INSERT OR REPLACE INTO model VALUES (?, ?, ?)", (fingerprint, at_s, pack(facts)))


def has_facts(connection: sqlite3.Connection) -> bool:
    """Whether the file has a table of models' facts."""
    return connection.execute(_HAS_MODEL_TABLE).fetchone() is not None


def read_constants(connection: sqlite3.Connection, device: DeviceKey) -> Constants | None:
    row = connection.execute("SELECT body FROM constants WHERE device = ?", (device.digest,)).fetchone()
    try:
        return None if row is None else unpack(Constants, row[0])
    except ValueError:  # of a build that wrote it otherwise
        return None


def write_constants(connection: sqlite3.Connection, device: DeviceKey, constants: Constants, at_s: float) -> None:
    row = (device.digest, at_s, pack(constants))
    connection.execute("INSERT OR REPLACE INTO constants (device, at_s, body) VALUES (?, ?, ?)", row)
