"""One node's part of a probe: started there by DeepSpeed's back end, it calls the CLI and runs an agent for it.

It is started by its path and not with `-m`: DeepSpeed's Slurm and MVAPICH back ends know no `--module`. Everything that
it started ends with it, and it ends when the CLI hangs up.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import socket
import sys
import time
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

from autofit.domain.errors import AutofitError
from autofit.domain.hardware import DeviceKind
from autofit.hardware.host import disk_free_bytes
from autofit.hardware.machine import detect_here
from autofit.probing.agent_process import AgentProcess
from autofit.probing.nodes.node_protocol import Hello, Installed, Inventory, NodeCommand, proof_of
from autofit.probing.nodes.relay import Relay
from autofit.probing.protocol import AgentFailed, Refused
from autofit.process.connection import Connection, ConnectionLost
from autofit.process.files import explain
from autofit.process.python import script_environment, without_rank_variables
from autofit.process.signals import Terminated, note_signals, wait
from autofit.store.versions import versions

_SIGNALLED = 128
# Where the back ends say who this process is: launch.py, Open MPI, MPICH and Intel MPI, MVAPICH, Slurm.
_RANK = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")
_LOCAL_RANK = (
    "LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "PALS_LOCAL_RANKID",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
)


def main() -> None:
    options = _parser().parse_args()
    if _number(_LOCAL_RANK) != 0:
        return  # one of them speaks for the node
    note_signals()
    try:
        connection = socket.create_connection((options.address, options.port), timeout=options.timeout_s)
    except OSError as error:
        sys.exit(f"autofit cannot be reached at {options.address} port {options.port} from here: {error}")
    connection.settimeout(None)
    secret = secrets.token_hex(16)
    print(proof_of(secret), flush=True)
    try:
        _serve(Connection(connection, NodeCommand), options, secret)
    except ConnectionLost:
        pass  # the way in which it is asked to end
    except Terminated as ended:
        sys.exit(_SIGNALLED + ended.number)
    finally:
        connection.close()  # the CLI waits for this: nothing is left here


def _serve(connection: Connection, options: argparse.Namespace, secret: str) -> None:
    counts = [int(count) for count in options.slots.split(",")]
    index = _node_index(counts)
    connection.send(Hello(secret, index, time.time()))
    inventory = _inventory(counts[index], Path(options.temporary), connection.own_address)
    connection.send(inventory)
    if isinstance(inventory, Refused):
        while True:
            wait([connection])
            connection.receive()  # until the CLI hangs up
    environment = without_rank_variables(script_environment(inventory.node.devices[0].kind))  # that of this process
    agent = AgentProcess(environment, sys.stderr.buffer)
    relay = Relay(connection, agent)
    try:
        relay.run()
    except BrokenPipeError:
        pass  # the agent's: told below
    finally:
        exit_code = relay.end()
    connection.send(AgentFailed(f"its agent ended with exit code {exit_code}"))


def _inventory(rank_count: int, temporary: Path, own_address: str) -> Inventory | Refused:
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        here = detect_here(temporary)
        if here.kind is DeviceKind.CPU:
            here = detect_here(temporary, ranks=rank_count)
    except OSError as error:
        return Refused(explain(error, temporary))
    except AutofitError as error:
        return Refused(str(error))
    found = {"python": platform.python_version(), **asdict(versions())}
    return Inventory(
        node=here.nodes[0],
        installed=tuple(Installed(package, version) for package, version in found.items()),
        temporary_free_bytes=disk_free_bytes(temporary),
        master_address=os.environ.get("MASTER_ADDR") or own_address,
    )


def _node_index(counts: list[int]) -> int:
    """The index of the node that this rank is on, when nodes have `counts` ranks, one after the other."""
    rank = _number(_RANK)
    return next(index for index, end in enumerate(accumulate(counts)) if rank < end)


def _number(names: tuple[str, ...]) -> int:
    """The number of this process, by the first variable of `names` that is set; 0 where it is alone."""
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="autofit node", allow_abbrev=False)
    for name in ("--address", "--slots", "--temporary"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--timeout-s", type=float, required=True)
    return parser


if __name__ == "__main__":
    main()
