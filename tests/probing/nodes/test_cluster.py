"""The CLI's side of a cluster, against nodes that are threads with a socket each."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from autofit.domain.deepspeed_line import HostSlots, LaunchLine, Layout
from autofit.domain.ending import broken_text
from autofit.domain.errors import HostFailed
from autofit.domain.hardware import DeviceKind, Node
from autofit.domain.outcome import Crashed, Killed, Measured, OutOfMemory, Phase, Place
from autofit.domain.script import RuntimePatches, Script
from autofit.domain.strategy import Strategy
from autofit.probing.nodes.backend import complaint_in, placement_options
from autofit.probing.nodes.cluster import Cluster
from autofit.probing.nodes.node_protocol import (
    FileWritten,
    FindPort,
    Hello,
    Installed,
    Inventory,
    NodeCommand,
    PortFound,
    ProbeEnded,
    PutFile,
    proof_of,
)
from autofit.probing.protocol import (
    AgentFailed,
    EndProbe,
    FailureKind,
    GroupEnded,
    Heartbeat,
    RankEnd,
    RankFailed,
    RankMeasured,
    Ready,
    Refused,
    RunProbes,
    ScriptJob,
    ScriptSpec,
    Share,
)
from autofit.process.build_locks.build_wait import BuildWait
from autofit.process.connection import Connection, ConnectionLost
from tests.builders import make_device, make_host, make_rung

STRATEGY = Strategy(
    make_rung(3),
    1,
    1,
)
LAYOUT = Layout((HostSlots("a", (0,)), HostSlots("b", (0,))), is_multi_node=False)  # False: all is on the loopback
MEASURED = RankMeasured(100, 200, 10, 0, None, None, 0.5, 50.0)
VERSIONS = {"python": "3.11", "autofit": "1", "torch": "2.13", "deepspeed": "0.19", "transformers": "5.23"}
LATE_S = 7200.0  # by which the second node's clock is ahead


@dataclass
class FakeNode:
    """What one node does; `talk` is what it does once it has said what there is and is ready."""

    index: int
    device_count: int = 1
    versions: dict[str, str] = field(default_factory=lambda: dict(VERSIONS))
    free_bytes: int = 10**12
    talk: Callable[[FakeNode, Connection], None] = lambda node, link: obey(node, link)
    report: RankMeasured | RankFailed | None = MEASURED
    waits: Sequence[BuildWait] = ()  # what it says before it is ready
    is_waiting: bool = False  # its ranks sit in a collective until they are ended
    heard: list[NodeCommand] = field(default_factory=list)

    @property
    def inventory(self) -> Inventory:
        installed = tuple(Installed(*item) for item in self.versions.items())
        node = Node(make_host(), (make_device(),) * self.device_count)
        return Inventory(node, installed, self.free_bytes, "10.0.0.7")

    def run(self, address: str, port: int, secret: str) -> None:
        with socket.create_connection((address, port)) as connection:
            link = Connection(connection, NodeCommand)
            try:
                link.send(Hello(secret, self.index, time.time() + LATE_S * self.index))
                link.send(self.inventory)
                for wait in self.waits:
                    link.send(wait)
                link.send(Ready(0.1))
                self.talk(self, link)
            except ConnectionLost:
                pass  # the end of the cluster

    def end(self, number: int, *, was_killed: bool = False) -> ProbeEnded:
        report = None if was_killed else self.report
        if isinstance(report, RankFailed):
            report = replace(report, at_s=report.at_s + LATE_S * self.index)
        code = 0 if isinstance(report, RankMeasured) else -9
        return ProbeEnded(GroupEnded(number, (RankEnd(self.index, code, was_killed, Phase.STEP, report),), 0.1, 1.0), 0)


def obey(node: FakeNode, link: Connection) -> None:
    while True:
        for command in link.receive():
            node.heard.append(command)
            if isinstance(command, RunProbes):
                number = command.probes[0].number
                link.send(Heartbeat(number, node.index, Phase.FORWARD, 0))
                if not node.is_waiting:
                    link.send(node.end(number))
            elif isinstance(command, EndProbe):
                link.send(node.end(command.number, was_killed=True))
            elif isinstance(command, PutFile):
                link.send(
                    FileWritten(command.path) if node.index == 0 else Refused(f"{command.path} cannot be written")
                )
            else:
                assert isinstance(command, FindPort)
                link.send(PortFound(4242))


@dataclass
class FakeLaunch:
    """Starts the nodes as threads; what it says of itself is given."""

    nodes: Sequence[FakeNode]
    secret: str = "known to the launcher"
    proof: str = proof_of("known to the launcher")
    exit_code: int | None = None
    complaints: dict[str, str] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    has_ended: bool = False

    def __call__(self, line: LaunchLine, program: Path, arguments: Sequence[str], log_path: Path) -> FakeLaunch:
        assert program.is_file()
        told = dict(zip(arguments[::2], arguments[1::2], strict=True))
        place = (told["--address"], int(told["--port"]), self.secret)
        self.threads = [threading.Thread(target=node.run, args=place, daemon=True) for node in self.nodes]
        for thread in self.threads:
            thread.start()
        return self

    def complaint(self, host: str) -> str | None:
        return self.complaints.get(host)

    def has_said(self, text: str) -> bool:
        return text == self.proof

    def last_words(self) -> str:
        return "srun: error: no such partition"

    def end(self, grace_s: float) -> None:
        self.has_ended = True

    def are_all_nodes_gone(self) -> bool:
        for thread in self.threads:
            thread.join(60.0)
        return not any(thread.is_alive() for thread in self.threads)


def cluster(
    launch: FakeLaunch,
    folder: Path,
    *,
    layout: Layout = LAYOUT,
    connect_timeout_s: float = 60.0,
    tell: Callable[[str], None] = lambda text: None,
) -> Cluster:
    log_path = folder / "agent.log"
    return Cluster(
        LaunchLine((), "train.py", ()),
        layout,
        log_path=log_path,
        tell=tell,
        connect_timeout_s=connect_timeout_s,
        launch=launch,
    )


def spec(folder: Path) -> ScriptSpec:
    job = ScriptJob(Script("train.py", (), "/"), STRATEGY, RuntimePatches(), DeviceKind.CPU, 2)
    shares = tuple(Share(index, 2, index, 1, (), "127.0.0.1", 4242) for index in range(2))
    return ScriptSpec(job, shares, str(folder / "scratch"), str(folder / "probe.log"), heartbeat_timeout_s=60.0)


def failure_of(launch: FakeLaunch, folder: Path, **options: float) -> str:
    """The sentence with which the cluster does not come to be."""
    with pytest.raises(HostFailed) as error, cluster(launch, folder, **options) as started:  # type: ignore[arg-type]
        started.wait_ready()
    assert launch.has_ended
    return str(error.value)


def test_a_probe_is_measured_when_every_node_has_measured_its_share(tmp_path: Path) -> None:
    heartbeats: list[Phase] = []
    slower = replace(MEASURED, last_s=0.8, peak_device_bytes=300)
    launch = FakeLaunch([FakeNode(1, report=slower, device_count=3), FakeNode(0)])
    with cluster(launch, tmp_path) as started:
        assert [len(node.devices) for node in started.nodes] == [1, 1]  # no more than the job uses
        assert (started.master_address, started.free_port()) == ("10.0.0.7", 4242)
        outcome = started.probe(spec(tmp_path), heartbeats.append)
    assert isinstance(outcome, Measured)
    assert (outcome.step_s, outcome.peak_device_bytes, outcome.peak_host_bytes) == (0.8, 300, 400)
    assert heartbeats == [Phase.FORWARD, Phase.FORWARD]
    assert [node.heard[-1].probes[0].node_index for node in launch.nodes] == [1, 0]  # type: ignore[union-attr]
    assert launch.are_all_nodes_gone()


def test_a_host_that_waits_for_a_build_is_named_once(tmp_path: Path) -> None:
    told: list[str] = []
    launch = FakeLaunch([FakeNode(0), FakeNode(1, waits=[BuildWait("op", "/builds/op/lock", 12)] * 3)])
    with cluster(launch, tmp_path, tell=told.append) as started:
        started.wait_ready()
    assert told == [
        "host b: waiting for process 12, which is building torch's extension op (its lock is /builds/op/lock)"
    ]


def test_the_others_are_ended_when_one_node_fails(tmp_path: Path) -> None:
    failed = RankFailed(FailureKind.OUT_OF_MEMORY, Phase.BACKWARD, Place.DEVICE, "no memory", 1.0)
    launch = FakeLaunch([FakeNode(0, is_waiting=True), FakeNode(1, report=failed)])
    with cluster(launch, tmp_path) as started:
        outcome = started.probe(spec(tmp_path), lambda phase: None)
    assert isinstance(outcome, OutOfMemory)
    assert (outcome.rank, outcome.message) == (1, "b: no memory")
    assert isinstance(launch.nodes[0].heard[-1], EndProbe)


def test_the_first_failure_is_found_by_one_clock(tmp_path: Path) -> None:
    """The clock of b is ahead by two hours, and what it says happened a second earlier."""
    first = RankFailed(FailureKind.CRASHED, Phase.STEP, Place.DEVICE, "no such model", 999.0)
    later = replace(first, message="connection closed by peer", at_s=1000.0)
    with cluster(FakeLaunch([FakeNode(0, report=later), FakeNode(1, report=first)]), tmp_path) as started:
        outcome = started.probe(spec(tmp_path), lambda phase: None)
    assert isinstance(outcome, Crashed)
    assert outcome.why == "b: no such model"


def test_a_killed_rank_is_the_cause_and_not_who_lost_it(tmp_path: Path) -> None:
    lost = RankFailed(FailureKind.CRASHED, Phase.STEP, Place.DEVICE, "connection closed by peer", 1.0)
    with cluster(FakeLaunch([FakeNode(0, report=lost), FakeNode(1, report=None)]), tmp_path) as started:
        outcome = started.probe(spec(tmp_path), lambda phase: None)
    assert isinstance(outcome, Killed)
    assert (outcome.rank, outcome.signal, outcome.host) == (1, signal.SIGKILL, "b")
    assert "rank 1 on host b was killed by SIGKILL" in broken_text(outcome)


def test_a_file_that_a_host_cannot_write_is_an_error_with_its_name(tmp_path: Path) -> None:
    launch = FakeLaunch([FakeNode(0), FakeNode(1)])
    with cluster(launch, tmp_path) as started, pytest.raises(HostFailed, match=r"host b: /x/ds.json cannot be written"):
        started.put_file(Path("/x/ds.json"), "{}")
    assert PutFile("/x/ds.json", "{}") in launch.nodes[0].heard


def leave_at_probe(node: FakeNode, link: Connection) -> None:
    while not any(isinstance(command, RunProbes) for command in link.receive()):
        pass


def give_up(node: FakeNode, link: Connection) -> None:
    link.send(AgentFailed("its agent ended with exit code -9"))


@pytest.mark.parametrize(
    ("talk", "sentence"),
    [(leave_at_probe, "host b does not answer any more"), (give_up, "host b cannot go on: its agent ended")],
)
def test_a_node_that_goes_in_the_middle_of_a_probe_is_named(
    talk: Callable[[FakeNode, Connection], None], sentence: str, tmp_path: Path
) -> None:
    launch = FakeLaunch([FakeNode(0, is_waiting=True), FakeNode(1, talk=talk)])
    with pytest.raises(HostFailed, match=sentence), cluster(launch, tmp_path) as started:
        started.probe(spec(tmp_path), lambda phase: None)
    assert launch.are_all_nodes_gone()


def test_a_host_that_never_calls_is_named(tmp_path: Path) -> None:
    assert "host b gave no sign within 2 s" in failure_of(FakeLaunch([FakeNode(0)]), tmp_path, connect_timeout_s=2.0)


def test_a_host_that_the_launcher_gave_up_is_named_with_its_words(tmp_path: Path) -> None:
    failure = failure_of(FakeLaunch([FakeNode(0)], complaints={"b": "ssh: No route to host"}), tmp_path)
    assert "host b cannot be reached" in failure
    assert "No route to host" in failure


def test_a_launcher_that_ends_is_quoted(tmp_path: Path) -> None:
    failure = failure_of(FakeLaunch([], exit_code=1), tmp_path)
    assert "hosts a, b" in failure
    assert "no such partition" in failure


def test_whom_the_launcher_has_not_started_is_nobody(tmp_path: Path) -> None:
    launch = FakeLaunch([FakeNode(0), FakeNode(1)], secret="guessed")
    assert "hosts a, b gave no sign" in failure_of(launch, tmp_path, connect_timeout_s=0.4)


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (FakeNode(1, versions={**VERSIONS, "torch": "2.11"}), "host b has torch 2.11 and host a has torch 2.13"),
        (FakeNode(1, device_count=0), "host b has 0 cpu devices to use and the job asks for 1 there"),
        (FakeNode(1, free_bytes=65536), "host b has 65.5 kB of disk left"),
        (FakeNode(1, talk=give_up), "host b cannot go on"),
    ],
)
def test_a_host_that_cannot_take_part_is_named(node: FakeNode, sentence: str, tmp_path: Path) -> None:
    launch = FakeLaunch([FakeNode(0), node])
    with pytest.raises(HostFailed) as error, cluster(launch, tmp_path) as started:
        started.probe(spec(tmp_path), lambda phase: None)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("-H hosts --include a@b --ssh_port 22 -q", "-H hosts --include a@b --ssh_port 22 -q"),
        ("--module --no_python --no_local_rank --save_pid --num_nodes 2", "--num_nodes 2"),
        ("--enable_each_rank_log logs --autotuning=tune --launcher slurm", "--launcher slurm"),
        ("--enable logs --auto run --bind_core_list 0-3 --no_ssh_check", "--no_ssh_check"),
        ("--launcher_args --module=x", "--launcher_args"),
    ],
)
def test_only_what_says_where_is_kept_of_the_options(words: str, kept: str) -> None:
    assert list(placement_options(words.split())) == kept.split()


PDSH_LOG = """\
n1: [2026-01-02 03:04:05,006] [INFO] [launch.py:152:main] WORLD INFO DICT: {}
n2: python3: can't open file '/opt/autofit/node.py': [Errno 2] No such file or directory
n2: [2026-01-02 03:04:05,006] [ERROR] [launch.py:259:sigkill_handler] exits with return code = 2
pdsh@login: n2: ssh exited with exit code 2
pdsh@login: n3: ssh exited with exit code 255
"""


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("n1", None),
        ("n2.cluster.org", "python3: can't open file '/opt/autofit/node.py': [Errno 2] No such file or directory"),
        ("n3", "its ssh ended"),
    ],
)
def test_what_a_host_said_before_pdsh_gave_it_up(host: str, complaint: str | None) -> None:
    assert complaint_in(PDSH_LOG, host) == complaint
