"""A port for ranks to meet at."""

from __future__ import annotations

import socket


def free_port(address: str = "127.0.0.1") -> int:
    """One on which nobody listens now at this machine's `address`."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
