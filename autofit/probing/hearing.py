"""Waiting for what nodes say: the next word of any of them, never for ever."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from autofit.domain.errors import HostFailed
from autofit.probing.interruption import wait
from autofit.probing.member import Member
from autofit.probing.node_protocol import NodeMessage
from autofit.probing.protocol import BuildWait

ANSWER_S = 30.0  # for what needs no time

Said = TypeVar("Said")


def next_of(members: Sequence[Member], late: Sequence[Member], within_s: float) -> tuple[Member, NodeMessage]:
    """What one of `members` said; HostFailed when one is lost, or, naming `late`, when none says anything.

    That one waits for a build is a sign of life and no more.
    """
    deadline_s = time.monotonic() + within_s
    while True:
        for member in members:
            while member.heard:
                message = member.take()
                if not isinstance(message, BuildWait):
                    return member, message
                member.on_wait(message)
                deadline_s = time.monotonic() + within_s
        links = {member.link.fileno(): member for member in members}
        ready = wait(list(links), max(0.0, deadline_s - time.monotonic()))
        if not ready:
            hosts = " and ".join(f"host {member.host}" for member in late)
            raise HostFailed(f"{hosts} said nothing for {within_s:.0f} s: look there what its processes wait for.")
        for number in ready:
            links[number].listen()


def answer_of(member: Member, kind: type[Said]) -> Said:
    """Its next word, which is of that kind."""
    _, message = next_of([member], [member], ANSWER_S)
    assert isinstance(message, kind)
    return message


def wait_until_gone(members: Sequence[Member], within_s: float) -> None:
    """Hangs up and waits for them to do the same, which they do once nothing of theirs runs any more."""
    deadline_s = time.monotonic() + within_s
    talking = {member.link.fileno(): member for member in members}
    for member in members:
        member.link.hang_up()
    while talking:
        ready = wait(list(talking), max(0.0, deadline_s - time.monotonic()))
        if not ready:
            return
        for number in ready:
            if talking[number].is_gone():
                del talking[number]
