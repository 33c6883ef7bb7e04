"""What the CLI and a node of the job say to each other: the agent's own words, and those that a node adds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Union

from autofit.domain.hardware import Node
from autofit.probing.protocol import AgentFailed, EndProbe, GroupEnded, Heartbeat, Ready, Refused, RunProbes, ScriptSeen
from autofit.process.build_locks.build_wait import BuildWait

# --- CLI to node ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PutFile:
    """Asks to write a file, with the folders above it; answered by FileWritten or Refused."""

    path: str
    text: str


@dataclass(frozen=True)
class FindPort:
    """Asks for a port on which nobody listens now; answered by PortFound."""


NodeCommand = Union[RunProbes, EndProbe, PutFile, FindPort]


# --- node to CLI ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """The first word of a node, in which it shows that it was the CLI that had it started: the CLI has what the node
    has printed before, the `proof_of` its secret."""

    secret: str
    node_index: int
    clock_s: float  # time.time() there


def proof_of(secret: str) -> str:
    """What a node prints of its secret, for the launcher to bring to the CLI: on a command line, which would be the
    other way, every user of a machine can read it."""
    return f"autofit node {hashlib.sha256(secret.encode()).hexdigest()}"


@dataclass(frozen=True)
class Installed:
    package: str
    version: str | None  # None: it is not


@dataclass(frozen=True)
class Inventory:
    """What there is on a node; `master_address` is where ranks of other nodes would find it."""

    node: Node
    installed: tuple[Installed, ...]
    temporary_free_bytes: int
    master_address: str


@dataclass(frozen=True)
class ProbeEnded:
    """The node's share of a probe. `log` is what its ranks wrote, None where that is in the CLI's own log."""

    group: GroupEnded
    oom_kills: int  # by how much the count of the node's cgroup grew
    log: str | None = None


@dataclass(frozen=True)
class FileWritten:
    path: str


@dataclass(frozen=True)
class PortFound:
    port: int


NodeMessage = Union[
    Hello, Inventory, Ready, BuildWait, Refused, Heartbeat, ScriptSeen, ProbeEnded, FileWritten, PortFound, AgentFailed
]  # fmt: skip
