"""The tables of traces and of fitted constants: by what a trace depends on, by kind of device and versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from autofit.domain.codec import encode
from autofit.domain.estimate import Constants
from autofit.domain.trace import MicroStep, Trace

from .machine_kind import DeviceKey
from .serialization import canonical, pack, unpack

_READ = "SELECT body FROM trace WHERE fingerprint = ? AND micro_step = ?"
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
    """The micro-step as its row is found by. Packages came later: without them older rows are found as well."""
    body = encode(micro_step)
    if not micro_step.kernel_packages:
        del body["kernel_packages"]
    return canonical(body)


def read_constants(connection: sqlite3.Connection, device: DeviceKey) -> Constants | None:
    row = connection.execute("SELECT body FROM constants WHERE device = ?", (device.digest,)).fetchone()
    try:
        return None if row is None else unpack(Constants, row[0])
    except ValueError:  # of a build that wrote it otherwise
        return None


def write_constants(connection: sqlite3.Connection, device: DeviceKey, constants: Constants, at_s: float) -> None:
    row = (device.digest, at_s, pack(constants))
    connection.execute("INSERT OR REPLACE INTO constants (device, at_s, body) VALUES (?, ?, ?)", row)
