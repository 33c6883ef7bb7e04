"""A connection between the CLI and a node: values as JSON lines both ways, and a cut cable noticed in seconds."""

from __future__ import annotations

import json
import socket
from typing import Any

from autofit.domain.codec import decode_union, to_json

# Without a word from the application: an idle link is asked after 2 s, what was sent must arrive within 5 s.
_IDLE_S, _INTERVAL_S, _PROBES = 2, 1, 3
_UNANSWERED_MS = 5000


class ConnectionLost(Exception):
    """The other side has gone, or cannot be reached any more."""


class Lines:
    """Makes whole lines out of chunks."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return lines


class Connection:
    """One side of a connection; `hears` is the union of what the other side says. `fileno` makes it selectable."""

    def __init__(self, connection: socket.socket, hears: Any) -> None:
        self._connection = connection
        self._hears = hears
        self._lines = Lines()
        _keep_alive(connection)

    def fileno(self) -> int:
        return self._connection.fileno()

    @property
    def own_address(self) -> str:
        return str(self._connection.getsockname()[0])

    @property
    def is_within_host(self) -> bool:
        """Whether both sides have the same address."""
        return self.own_address == str(self._connection.getpeername()[0])

    def send(self, value: object) -> None:
        """Sends a value; ConnectionLost when the other side has gone."""
        line = to_json(value, separators=(",", ":")).encode() + b"\n"
        try:
            self._connection.sendall(line)
        except OSError as error:
            raise ConnectionLost(str(error)) from None

    def receive(self) -> list[Any]:
        """The values that have been said, waiting for something; ValueError for what makes no sense, ConnectionLost at
        the end."""
        try:
            chunk = self._connection.recv(65536)
        except OSError as error:
            raise ConnectionLost(str(error)) from None
        if not chunk:
            raise ConnectionLost("the other side has ended")
        return [decode_union(self._hears, json.loads(line)) for line in self._lines.split(chunk)]

    def hang_up(self) -> None:
        """Says that nothing more will come from here; the other side may still talk."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has gone already

    def close(self) -> None:
        self._connection.close()


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
