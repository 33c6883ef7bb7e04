"""Where the nodes of a cluster call: a port of this machine, and who of those that call is one of them."""

from __future__ import annotations

import secrets
import socket
import time

from autofit.domain.deepspeed_line import Layout
from autofit.probing.nodes.node_handle import NodeHandle
from autofit.probing.nodes.node_protocol import Hello, NodeMessage
from autofit.process.connection import Connection, ConnectionLost

_ANYWHERE = "203.0.113.1"  # an address of nobody: which way it would go tells this machine's own


class RendezvousServer:
    """A port that is open until it is closed. `token` is what a node must know."""

    def __init__(self, layout: Layout) -> None:
        self.token = secrets.token_hex(16)
        self._layout = layout
        self._listener = socket.create_server((own_address(layout), 0), backlog=64)
        self._callers: list[Connection] = []

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

    def accept(self, source: socket.socket | Connection) -> NodeHandle | None:
        """Hears what one of `sources` has: a node once it has said its hello; whoever says anything else is sent
        away."""
        if not isinstance(source, Connection):
            self._callers.append(Connection(self._listener.accept()[0], NodeMessage))
            return None
        try:
            messages = source.receive()
        except (ConnectionLost, ValueError):
            self._send_away(source)
            return None
        if not messages:
            return None  # half a line
        hello, *more = messages
        if not isinstance(hello, Hello) or not secrets.compare_digest(hello.token, self.token):
            self._send_away(source)
            return None
        self._callers.remove(source)
        handle = NodeHandle(self._layout.hosts[hello.node_index], source, clock_ahead_s=hello.clock_s - time.time())
        handle.heard.extend(more)
        return handle

    def _send_away(self, caller: Connection) -> None:
        self._callers.remove(caller)
        caller.close()

    def close(self) -> None:
        for source in self.sources:
            source.close()
        self._callers.clear()


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
