"""Where the nodes of a cluster call: a port of this machine, and who of those that call is one of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autofit.domain.deepspeed_line import Layout
from autofit.probing.nodes.node_handle import NodeHandle
from autofit.probing.nodes.node_protocol import Hello, NodeMessage, proof_of
from autofit.process.connection import Connection, ConnectionLost

_ANYWHERE = "203.0.113.1"  # an address of nobody: which way it would go tells this machine's own


@dataclass(frozen=True, eq=False)
class _Guest:
    """A caller that has said its hello, and perhaps `more`."""

    connection: Connection
    hello: Hello
    more: list[Any]
    clock_ahead_s: float


class RendezvousServer:
    """A port that is open until it is closed."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._listener = socket.create_server((own_address(layout), 0), backlog=64)
        self._callers: list[Connection] = []
        self._guests: list[_Guest] = []

    @property
    def address(self) -> str:
        return str(self._listener.getsockname()[0])

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def sources(self) -> list[socket.socket | Connection]:
        """The descriptors to wait on."""
        return [self._listener, *self._callers]

    def hear(self, source: socket.socket | Connection) -> None:
        """Hears what one of `sources` has; whoever says anything but a hello is sent away."""
        if not isinstance(source, Connection):
            self._callers.append(Connection(self._listener.accept()[0], NodeMessage))
            return
        try:
            messages = source.receive()
        except (ConnectionLost, ValueError):
            self._send_away(source)
            return
        if not messages:
            return  # half a line
        hello, *more = messages
        if not isinstance(hello, Hello):
            self._send_away(source)
            return
        self._callers.remove(source)
        self._guests.append(_Guest(source, hello, more, hello.clock_s - time.time()))

    def admit(self, has_said: Callable[[str], bool]) -> list[NodeHandle]:
        """The nodes among those that have said a hello: those that the launcher has started.

        `has_said` tells whether a text has come from what it has started, as the proof of a secret may somewhat later
        than the secret itself. Whoever has none is never one of them.
        """
        proven = [guest for guest in self._guests if has_said(proof_of(guest.hello.secret))]
        self._guests = [guest for guest in self._guests if guest not in proven]
        return [self._handle(guest) for guest in proven]

    def _handle(self, guest: _Guest) -> NodeHandle:
        host = self._layout.hosts[guest.hello.node_index]
        handle = NodeHandle(host, guest.connection, clock_ahead_s=guest.clock_ahead_s)
        handle.heard.extend(guest.more)
        return handle

    def _send_away(self, caller: Connection) -> None:
        self._callers.remove(caller)
        caller.close()

    def close(self) -> None:
        for source in [*self.sources, *(guest.connection for guest in self._guests)]:
            source.close()
        self._callers.clear()
        self._guests.clear()


def own_address(layout: Layout) -> str:
    """The address of this machine by which the hosts reach it: no packet is sent to find it."""
    if not layout.is_multi_node:
        return "127.0.0.1"
    for name in (*(slots.host for slots in layout.hosts), _ANYWHERE):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((name, 9))
            except OSError:
                continue  # a name that only ssh knows
            address = str(probe.getsockname()[0])
        if not address.startswith("127."):
            return address
    return "127.0.0.1"
