"""Ranks of one node meet on the loopback interface: nobody else on the network can reach what they listen on."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

import psutil

_ADDRESS = "127.0.0.1"
# By which gloo and NCCL are told where to listen: left alone, they take the interface of the host's name, or any.
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def is_on_one_node(rank_count: int) -> bool:
    """Whether all ranks of the job are on this node, as DeepSpeed's launcher and the agent say it."""
    return os.environ.get("LOCAL_SIZE") == str(rank_count)


def keep_to_loopback() -> None:
    """Has the groups that are made from here on listen on the loopback interface, unless the user has named one.

    Between devices of one node NCCL takes NVLink, PCIe or shared memory: over sockets it only says where.
    """
    if (interface := _loopback_interface()) is not None:
        for name in _INTERFACES:
            os.environ.setdefault(name, interface)


def _loopback_interface() -> str | None:
    """The name of the interface that has the loopback address, `lo`; None where a container has none."""
    found = psutil.net_if_addrs().items()
    return next((name for name, addresses in found if any(one.address == _ADDRESS for one in addresses)), None)


def loopback_store(rank_count: int, timeout: timedelta) -> Any:
    """torch's TCPStore of this job at $MASTER_PORT, whose server, at rank 0, listens on the loopback address alone.

    torch itself would listen on all of the machine's addresses, whatever $MASTER_ADDR says: so its server is given a
    socket that is bound already. OSError where the port is taken.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    port, is_server = int(os.environ["MASTER_PORT"]), os.environ["RANK"] == "0"
    # The server closes what it is given.
    bound: dict[str, Any] = {"master_listen_fd": socket.create_server((_ADDRESS, port)).detach()} if is_server else {}
    return TCPStore(_ADDRESS, port, rank_count, is_server, timeout, **bound)
