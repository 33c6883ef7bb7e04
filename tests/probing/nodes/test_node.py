"""The program that DeepSpeed's back ends start on every node, started as they do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.script import RuntimePatches, Script
from autofit.probing.agent_process import AgentProcess
from autofit.probing.nodes.cluster import NODE
from autofit.probing.nodes.node_protocol import (
    FindPort,
    Hello,
    Inventory,
    NodeCommand,
    NodeMessage,
    PortFound,
    ProbeEnded,
    proof_of,
)
from autofit.probing.nodes.relay import Relay
from autofit.probing.protocol import (
    Command,
    GroupEnded,
    RankEnd,
    Refused,
    RunProbe,
    RunProbes,
    ScriptJob,
    ScriptSpec,
    to_line,
)
from autofit.process.connection import Connection
from autofit.store.versions import versions

BACKENDS = {
    "launch.py": ("RANK", "LOCAL_RANK"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "MPICH": ("PMI_RANK", "MPI_LOCALRANKID"),
    "MVAPICH": ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
    "Slurm": ("SLURM_PROCID", "SLURM_LOCALID"),
}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60.0)
        yield server


def start(listener: socket.socket, folder: Path, backend: str, rank: int, local_rank: int) -> subprocess.Popen[bytes]:
    """One of three ranks: one on the first node, two on the second."""
    names = BACKENDS[backend]
    clean = {key: value for key, value in os.environ.items() if not any(key in pair for pair in BACKENDS.values())}
    port = str(listener.getsockname()[1])
    words = ["--address", "127.0.0.1", "--port", port, "--slots", "1,2"]
    return subprocess.Popen(
        [sys.executable, str(NODE), *words, "--temporary", str(folder / "tmp"), "--timeout-s", "60"],
        env={**clean, names[0]: str(rank), names[1]: str(local_rank), "DS_ACCELERATOR": "cpu"},
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_one_process_of_a_node_is_enough(backend: str, listener: socket.socket, tmp_path: Path) -> None:
    assert start(listener, tmp_path, backend, rank=2, local_rank=1).wait(120.0) == 0
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_it_says_who_it_is_and_ends_when_the_cli_hangs_up(listener: socket.socket, tmp_path: Path) -> None:
    process = start(listener, tmp_path, "Slurm", rank=1, local_rank=0)
    link = Connection(listener.accept()[0], NodeMessage)
    heard: list[NodeMessage] = []
    while len(heard) < 2:
        heard += link.receive()
    hello, inventory, *_ = heard
    assert isinstance(hello, Hello)
    assert isinstance(inventory, Inventory)
    assert hello.node_index == 1
    assert process.stdout is not None
    assert process.stdout.readline().decode() == f"{proof_of(hello.secret)}\n"
    assert hello.secret not in " ".join(psutil.Process(process.pid).cmdline())
    assert len(inventory.node.devices) == 2
    assert ("torch", versions().torch) in [(one.package, one.version) for one in inventory.installed]
    link.send(FindPort())
    while not isinstance(heard[-1], PortFound):
        heard += link.receive()
    link.close()
    assert process.wait(120.0) == 0


class FakeAgent(AgentProcess):
    """Its only rank ends at once and leaves no report; then the agent itself ends."""

    def __init__(self) -> None:
        self.messages, self._speaking = os.pipe()

    def send(self, command: Command) -> None:
        assert isinstance(command, RunProbes)
        ended = GroupEnded(command.probes[0].number, (RankEnd(0, 1, False, Phase.STEP, None),), 0.1, 1.0)
        os.write(self._speaking, to_line(ended))
        os.close(self._speaking)


@pytest.mark.parametrize(("free_bytes", "is_said"), [(10**12, False), (4096, True)])
def test_a_disk_that_became_full_is_said(
    free_bytes: int, is_said: bool, listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, free_bytes))
    job = ScriptJob(Script("train.py", (), "/"), None, RuntimePatches(), DeviceKind.CPU, 1)
    spec = ScriptSpec(job, (), str(tmp_path / "scratch"), str(tmp_path / "probe.log"), heartbeat_timeout_s=60.0)
    there = Connection(socket.create_connection(listener.getsockname()), NodeCommand)
    here = Connection(listener.accept()[0], NodeMessage)
    here.send(RunProbes((RunProbe(7, spec),)))
    agent = FakeAgent()
    Relay(there, agent).run()
    there.close()
    os.close(agent.messages)
    heard = here.receive()
    here.close()
    assert [type(said) for said in heard] == [Refused] * is_said + [ProbeEnded]
    assert [f"no space left for {tmp_path / 'scratch'}" in said.message for said in heard[:-1]] == [True] * is_said
