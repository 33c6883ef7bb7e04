"""The table of fitted constants: one row for each kind of device and set of versions."""

from __future__ import annotations

import sqlite3

from autofit.domain.constants import Constants

from .machine_kind import DeviceKey
from .packing import pack, unpack


def read_constants(connection: sqlite3.Connection, device: DeviceKey) -> Constants | None:
    row = connection.execute("SELECT body FROM constants WHERE device = ?", (device.digest,)).fetchone()
    try:
        return None if row is None else unpack(Constants, row[0])
    except ValueError:  # of a build that wrote it otherwise
        return None


def write_constants(connection: sqlite3.Connection, device: DeviceKey, constants: Constants, at_s: float) -> None:
    row = (device.digest, at_s, pack(constants))
    connection.execute("INSERT OR REPLACE INTO constants (device, at_s, body) VALUES (?, ?, ?)", row)
