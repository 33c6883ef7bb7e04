"""The roll call of a job: its nodes call one after the other, or it is said which host does not and why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from autofit.domain.deepspeed_line import Layout
from autofit.domain.errors import HostFailed
from autofit.probing.nodes.backend import Launched
from autofit.probing.nodes.node_handle import NodeHandle
from autofit.probing.nodes.node_messages import answer_from
from autofit.probing.nodes.node_protocol import Inventory
from autofit.probing.nodes.rendezvous_server import RendezvousServer
from autofit.process.signals import wait

_POLL_S = 0.2  # how often the launcher is looked at meanwhile


def assemble(
    rendezvous: RendezvousServer,
    launched: Launched,
    layout: Layout,
    handles: list[NodeHandle],
    *,
    timeout_s: float,
    log_path: Path,
) -> None:
    """Adds every node to `handles`, with its inventory, in the order of the hosts; HostFailed when one is missing."""
    deadline_s = time.monotonic() + timeout_s
    while missing := _missing(layout, handles):
        ready = wait(rendezvous.sources, _POLL_S)
        for source in ready:
            rendezvous.hear(source)
        handles += rendezvous.admit(launched.has_said)
        if ready:
            continue
        _check_launch(launched, missing, log_path)
        if time.monotonic() > deadline_s:
            raise HostFailed(
                f"{_listed(missing)} gave no sign within {timeout_s:.0f} s: see in {log_path} whether DeepSpeed's "
                f"launcher gets there, and try whether {rendezvous.address} can be reached from there."
            )
    hosts = [slots.host for slots in layout.hosts]
    handles.sort(key=lambda handle: hosts.index(handle.host))
    for handle in handles:
        handle.inventory = answer_from(handle, Inventory)


def _missing(layout: Layout, handles: Sequence[NodeHandle]) -> list[str]:
    there = {handle.host for handle in handles}
    return [slots.host for slots in layout.hosts if slots.host not in there]


def _check_launch(launched: Launched, missing: Sequence[str], log_path: Path) -> None:
    """Checks the launch; HostFailed when one of the missing will not call any more."""
    for host in missing:
        if (complaint := launched.complaint(host)) is not None:
            raise HostFailed(f"host {host} cannot be reached, or autofit does not start there: {complaint}")
    if launched.exit_code is not None:
        raise HostFailed(
            f"DeepSpeed's launcher ended before {_listed(missing)} had answered; the end of {log_path}:"
            f"\n{launched.last_words()}"
        )


def _listed(hosts: Sequence[str]) -> str:
    return f"host{'' if len(hosts) == 1 else 's'} {', '.join(hosts)}"
