"""A node of the cluster as the CLI knows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from autofit.domain.deepspeed_line import HostSlots
from autofit.domain.errors import HostFailed, HostLost
from autofit.domain.hardware import DeviceKind
from autofit.domain.units import format_bytes
from autofit.probing.nodes.node_protocol import Inventory, NodeCommand, NodeMessage
from autofit.probing.protocol import AgentFailed, Refused
from autofit.process.build_locks.build_wait import OnWait
from autofit.process.connection import Connection, ConnectionLost

_NEEDED_BYTES = 100_000_000  # of free disk for temporary files: what a script writes in a few steps
_ALIKE = ("python", "autofit", "torch", "deepspeed", "transformers")  # a difference in others changes no rank's part


@dataclass
class NodeHandle:
    """A node by its host as the hostfile names it, and the connection to it."""

    slots: HostSlots
    connection: Connection
    clock_ahead_s: float  # its clock's, before the CLI's
    on_wait: OnWait = lambda wait: None
    inventory: Inventory | None = None
    is_ready: bool = False
    is_lost: bool = False
    heard: deque[NodeMessage] = field(default_factory=deque)

    @property
    def host(self) -> str:
        return self.slots.host

    def send(self, command: NodeCommand) -> None:
        """Sends a command to the node; HostFailed when it cannot be reached."""
        if self.is_lost:
            self._part()
        try:
            self.connection.send(command)
        except ConnectionLost:
            self._part()

    def listen(self) -> None:
        """Adds to `heard`, waiting for something; HostFailed when it has gone, or speaks another language."""
        try:
            self.heard.extend(self.connection.receive())
        except ConnectionLost:
            self._part()
        except ValueError as error:
            raise HostFailed(
                f"host {self.host} says what cannot be understood here ({error}): install the same autofit on both."
            ) from None

    def take(self) -> NodeMessage:
        """The oldest of `heard`; HostFailed when with it the node says that it cannot go on."""
        message = self.heard.popleft()
        if isinstance(message, Refused):
            raise HostFailed(f"host {self.host}: {message.message}.")
        if isinstance(message, AgentFailed):
            raise HostFailed(f"host {self.host} cannot go on: {message.why}.")
        return message

    def is_gone(self) -> bool:
        """Takes what it says, waiting for something, without a look at it; whether that was the end."""
        try:
            self.connection.receive()
        except (ConnectionLost, ValueError):
            return True
        return False

    def _part(self) -> NoReturn:
        """The failure of a node that is gone: its last words may say why, else it is HostLost."""
        self.is_lost = True
        with suppress(ConnectionLost):
            while True:
                self.heard.extend(self.connection.receive())
        while self.heard:
            self.take()
        raise HostLost(
            self.host,
            f"host {self.host} does not answer any more: the connection to it was lost. Look whether it is up and its "
            "network works, then start again.",
        )


def check_alike(handles: Sequence[NodeHandle], temporary: str) -> None:
    """Checks that nodes are alike; HostFailed for the first host that cannot take part beside the others."""
    first, kind = _versions(handles[0]), _kind(handles[0])
    for handle in handles:
        for package in _ALIKE:
            if _versions(handle)[package] != first[package]:
                raise HostFailed(
                    f"host {handle.host} has {_named(package, _versions(handle)[package])} and host {handles[0].host} "
                    f"has {_named(package, first[package])}: install the same on both."
                )
        _check_devices(handle, kind)
        assert handle.inventory is not None
        free_bytes = handle.inventory.temporary_free_bytes
        if free_bytes < _NEEDED_BYTES:
            raise HostFailed(
                f"host {handle.host} has {format_bytes(free_bytes)} of disk left in {temporary}, and a probe may need "
                f"{format_bytes(_NEEDED_BYTES)}: free some there, or set TMPDIR to a folder with more."
            )


def _check_devices(handle: NodeHandle, kind: DeviceKind) -> None:
    assert handle.inventory is not None
    found = [device for device in handle.inventory.node.devices if device.kind is kind]
    wanted = len(handle.slots.slots)
    if len(found) < wanted:
        raise HostFailed(
            f"host {handle.host} has {len(found)} {kind.value} device{'' if len(found) == 1 else 's'} to use and the "
            f"job asks for {wanted} there: correct its slots in the hostfile, or look why it lacks some."
        )


def _kind(handle: NodeHandle) -> DeviceKind:
    assert handle.inventory is not None
    return handle.inventory.node.devices[0].kind


def _versions(handle: NodeHandle) -> dict[str, str | None]:
    assert handle.inventory is not None
    return {one.package: one.version for one in handle.inventory.installed}


def _named(package: str, version: str | None) -> str:
    return f"no {package}" if version is None else f"{package} {version}"
