"""Ending a job on its nodes: a stand-in for pdsh runs the line of each of them here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import DEADLINE_S, is_alive, wait_until

PDSH = f"""#!{sys.executable}
import subprocess, sys
at = sys.argv.index("-w")
hosts, line = sys.argv[at + 1].split(","), " ".join(sys.argv[at + 2 :])
shells = {{
    host: subprocess.Popen(["sh", "-c", line.replace("%n", str(node))], stdout=subprocess.PIPE, text=True)
    for node, host in enumerate(hosts) if host != "gone"
}}
for host, shell in shells.items():
    for said in shell.communicate()[0].splitlines():
        print(f"{{host}}: {{said}}")
sys.exit(255 if "gone" in hosts else 0)
"""

LAUNCH = """
import os, signal, subprocess, sys
options = dict(word.partition("=")[::2] for word in sys.argv[1:])
own = {"MASTER_ADDR": options["--master_addr"], "MASTER_PORT": options["--master_port"]}
rank = subprocess.Popen([sys.executable, "rank.py"], env=os.environ | own | {"CROSS_RANK": options["--node_rank"]})
with open("pids", "a") as stream:
    stream.write(f"{os.getpid()} launch\\n")
rank.wait()
"""

RANK = """
import os, signal, time
def hear(number, frame):
    with open("heard", "a") as stream:
        stream.write(f"{os.environ['CROSS_RANK']} {signal.Signals(number).name}\\n")
    if not os.path.exists("deaf"):
        os._exit(0)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, hear)
with open("pids", "a") as stream:
    stream.write(f"{os.getpid()} rank\\n")
while True:
    time.sleep(1)
"""

END = """
import os, signal, subprocess, sys
from autofit.process.pdsh_call import PdshCall
from autofit.running.node_ranks import NodeRanks
number, grace_s, mark, *command = sys.argv[1:]
call = PdshCall.of(command, os.environ, mark)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
NodeRanks(call).end(int(number), float(grace_s), {signal.SIGUSR1})
"""


@dataclass(frozen=True)
class Nodes:
    """Jobs in a folder, on hosts of which none called `gone` answers."""

    folder: Path

    def command(self, hosts: str) -> list[str]:
        launch = ["-u", "-m", "deepspeed.launcher.launch", "--world_info=x", "--node_rank=%n"]
        words = [*launch, "--master_addr=1.2.3.4", f"--master_port={os.getpid()}"]
        return ["pdsh", "-S", "-w", hosts, f"cd {self.folder};", sys.executable, *words]

    def variables(self) -> dict[str, str]:
        return os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"}

    @contextmanager
    def job(self, mark: str, hosts: str = "a,b") -> Iterator[list[int]]:
        """The process ids of each launch.py, then those of the ranks."""
        command = self.command(hosts)
        at = command.index("-u")
        (self.folder / "pids").unlink(missing_ok=True)
        words = [*command[:at], "-X", mark, *command[at:]]
        process = subprocess.Popen(words, env=self.variables(), start_new_session=True)
        try:
            wait_until(lambda: len(self._lines("pids")) == 2 * len(hosts.replace("gone", "").strip(",").split(",")))
            yield [int(line.split()[0]) for line in sorted(self._lines("pids"), key=lambda line: line.split()[1])]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end(self, mark: str, hosts: str = "a,b", number: int = signal.SIGTERM, grace_s: float = DEADLINE_S) -> str:
        """What it complains of."""
        words = [sys.executable, "-c", END, str(int(number)), str(grace_s), mark, *self.command(hosts)]
        done = subprocess.run(words, env=self.variables(), stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S)
        return done.stderr

    def heard(self) -> list[str]:
        return sorted(self._lines("heard"))

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    package = tmp_path / "deepspeed/launcher"
    package.mkdir(parents=True)
    for path in (package.parent / "__init__.py", package / "__init__.py"):
        path.touch()
    (package / "launch.py").write_text(LAUNCH)
    (tmp_path / "rank.py").write_text(RANK)
    (tmp_path / "pdsh").write_text(PDSH)
    (tmp_path / "pdsh").chmod(0o755)
    return Nodes(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_every_rank_hears_the_signal_once(nodes: Nodes, number: signal.Signals) -> None:
    with nodes.job("autofit=1") as pids:
        assert nodes.end("autofit=1", number=number) == ""
        assert nodes.heard() == [f"0 {number.name}", f"1 {number.name}"]
        assert not any(map(is_alive, pids))


def test_ranks_that_will_not_end_are_killed_after_the_grace(nodes: Nodes) -> None:
    (nodes.folder / "deaf").touch()
    with nodes.job("autofit=1") as pids:
        began_s = time.monotonic()
        assert nodes.end("autofit=1", grace_s=0.3) == ""
        assert time.monotonic() - began_s >= 0.3
        assert nodes.heard() == ["0 SIGTERM", "1 SIGTERM"]
        assert not any(map(is_alive, pids))


def test_a_rank_without_its_launch_is_found(nodes: Nodes) -> None:
    with nodes.job("autofit=1") as pids:
        for launch in pids[:2]:
            os.kill(launch, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, pids[:2])))
        assert nodes.end("autofit=1") == ""
        assert not any(map(is_alive, pids))


def test_a_job_of_another_mark_goes_on(nodes: Nodes) -> None:
    """Though its address and port are the same: one of the two has failed for it."""
    with nodes.job("autofit=2") as pids:
        assert nodes.end("autofit=1") == ""
        assert nodes.heard() == []
        assert all(map(is_alive, pids))


def test_a_host_that_does_not_answer_is_named(nodes: Nodes) -> None:
    with nodes.job("autofit=1", hosts="a,gone") as pids:
        said = nodes.end("autofit=1", hosts="a,gone")
        assert said == "autofit: could not reach gone to end the ranks there; end what is left of them by hand\n"
        assert not any(map(is_alive, pids))
