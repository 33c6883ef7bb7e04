"""Waiting for what nodes say: the next word of any of them, never for ever."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from autofit.domain.errors import HostFailed
from autofit.probing.nodes.node_handle import NodeHandle
from autofit.probing.nodes.node_protocol import NodeMessage
from autofit.process.build_locks.build_wait import BuildWait
from autofit.process.signals import wait

ANSWER_S = 30.0  # for what needs no time

Said = TypeVar("Said")


def next_message(
    handles: Sequence[NodeHandle], late: Sequence[NodeHandle], within_s: float
) -> tuple[NodeHandle, NodeMessage]:
    """The next message of one of `handles`; HostFailed when one is lost, or, naming `late`, when none says anything.

    That one waits for a build is a sign of life and no more.
    """
    deadline_s = time.monotonic() + within_s
    while True:
        for handle in handles:
            while handle.heard:
                message = handle.take()
                if not isinstance(message, BuildWait):
                    return handle, message
                handle.on_wait(message)
                deadline_s = time.monotonic() + within_s
        handles_by_descriptor = {handle.connection.fileno(): handle for handle in handles}
        ready = wait(list(handles_by_descriptor), max(0.0, deadline_s - time.monotonic()))
        if not ready:
            hosts = " and ".join(f"host {handle.host}" for handle in late)
            raise HostFailed(f"{hosts} said nothing for {within_s:.0f} s: look there what its processes wait for.")
        for number in ready:
            handles_by_descriptor[number].listen()


def answer_from(handle: NodeHandle, kind: type[Said]) -> Said:
    """The next word of a node, which is of that kind."""
    _, message = next_message([handle], [handle], ANSWER_S)
    assert isinstance(message, kind)
    return message


def wait_until_gone(handles: Sequence[NodeHandle], within_s: float) -> None:
    """Hangs up and waits for them to do the same, which they do once nothing of theirs runs any more."""
    deadline_s = time.monotonic() + within_s
    talking = {handle.connection.fileno(): handle for handle in handles}
    for handle in handles:
        handle.connection.hang_up()
    while talking:
        ready = wait(list(talking), max(0.0, deadline_s - time.monotonic()))
        if not ready:
            return
        for number in ready:
            if talking[number].is_gone():
                del talking[number]
