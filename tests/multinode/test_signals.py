"""However a job on two hosts ends, nothing of it is left on either of them when the command has returned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.multinode.light_deepspeed import write_light_deepspeed
from tests.multinode.rig import DEADLINE_S, Host, Rig, until
from tests.spread import with_matrix

pytestmark = [pytest.mark.multinode, pytest.mark.slow]
PORT = 29611

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
rank, way = os.environ["RANK"], sys.argv[-1]
def hear(number, frame):
    time.sleep(0.3)
    print("rank", rank, "heard", signal.Signals(number).name, flush=True)
    if way != "deaf":
        os._exit(1)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, hear)
Path("up" + rank).touch()
time.sleep(600)
"""

COMMAND = """
import sys
from autofit.cli.boundary import die_of
from autofit.running.handover import hand_over
code = hand_over(sys.argv[3:], master_port=int(sys.argv[1]), grace_s=float(sys.argv[2])).exit_code
die_of(-code) if code < 0 else sys.exit(code)
"""

OTHERS_LAUNCH = """
import os, subprocess, sys
rank = {"MASTER_ADDR": sys.argv[1], "MASTER_PORT": sys.argv[2], "CROSS_RANK": "0"}
subprocess.run(["sleep", "600"], env=os.environ | rank)
"""


@dataclass(frozen=True)
class Job:
    rig: Rig
    process: subprocess.Popen[str]

    def find(self, start: str, part: str = "") -> int:
        """The one process on the first host whose command line starts so, and has that in it."""
        lines = self.rig.hosts[0].processes()
        found = [pid for pid, line in lines.items() if line.startswith(start) and part in line]
        assert len(found) == 1, lines
        return found[0]

    def end(self) -> tuple[int, str]:
        """The return code and the output; nothing is left."""
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        assert [host.processes() for host in self.rig.hosts] == [{}, {}], out
        return self.process.returncode, out


@contextmanager
def job(rig: Rig, folder: Path, way: str = "heed", grace_s: float = 20.0) -> Iterator[Job]:
    """With a rank on each host that has come up."""
    write_light_deepspeed(folder)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    program = ["env", f"PYTHONPATH={path}", sys.executable, "-c", COMMAND, str(PORT), str(grace_s)]
    with started_by(program, rig, folder, way) as started:
        yield started


@contextmanager
def started_by(program: list[str], rig: Rig, folder: Path, way: str = "heed") -> Iterator[Job]:
    (folder / "train.py").write_text(SCRIPT)
    words = ["--hostfile", str(rig.hostfile), "--no_ssh_check", "--master_addr", rig.hosts[0].address]
    words += ["--master_port", str(PORT), "train.py", way]
    process = rig.start([*program, *words], cwd=folder)
    try:
        until(lambda: all((folder / f"up{n}").exists() for n in range(2)), timeout_s=DEADLINE_S, what="both ranks")
        yield Job(rig, process)
    finally:
        for pid in [process.pid, *(pid for host in rig.hosts for pid in host.processes())]:
            subprocess.run(["kill", "-KILL", str(pid)], capture_output=True)  # none, where all is well
        process.wait()


@contextmanager
def others_job(host: Host, folder: Path, master_addr: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another job's launch.py of the same user, with its rank: same address, same port, as far as one can see."""
    package = folder / "others/deepspeed/launcher"
    package.mkdir(parents=True)
    for path in (package.parent / "__init__.py", package / "__init__.py"):
        path.touch()
    (package / "launch.py").write_text(OTHERS_LAUNCH)
    words = [sys.executable, "-u", "-m", "deepspeed.launcher.launch", master_addr, str(PORT)]
    process = subprocess.Popen(host.enter(words, folder / "others"), start_new_session=True)
    try:
        until(lambda: "sleep 600" in host.processes().values(), timeout_s=DEADLINE_S, what="its rank")
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def times_heard(out: str, number: signal.Signals) -> list[int]:
    return [out.count(f"rank {rank} heard {number.name}") for rank in range(2)]


def test_the_whole_of_deepspeed(rig: Rig, tmp_path: Path) -> None:
    """The other tests have its launcher alone, which starts in a third of the time."""
    with started_by(["autofit", "--autofit-off"], rig, tmp_path) as started:
        started.process.send_signal(signal.SIGTERM)
        code, out = started.end()
        assert code == -signal.SIGTERM, out
        assert times_heard(out, signal.SIGTERM) == [1, 1], out


@pytest.mark.parametrize("number", with_matrix([signal.SIGTERM, signal.SIGHUP], [signal.SIGINT]))
def test_a_signal_reaches_every_rank(rig: Rig, tmp_path: Path, number: signal.Signals) -> None:
    with job(rig, tmp_path) as started:
        started.process.send_signal(number)
        code, out = started.end()
        assert code == -number, out
        assert times_heard(out, number) == [1, 1], out


@pytest.mark.parametrize("number", with_matrix([signal.SIGINT], [signal.SIGTERM, signal.SIGHUP]))
def test_a_signal_to_the_whole_group(rig: Rig, tmp_path: Path, number: signal.Signals) -> None:
    """As a terminal sends it: what the ranks then say still arrives."""
    with job(rig, tmp_path) as started:
        os.killpg(started.process.pid, number)
        code, out = started.end()
        assert code == -number, out
        assert times_heard(out, number) == [1, 1], out


def test_a_killed_launcher_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    with job(rig, tmp_path) as started:
        os.kill(started.find(sys.executable, "autofit.worker.deepspeed.launcher_main"), signal.SIGKILL)
        code, out = started.end()
        assert code == 137, out
        assert times_heard(out, signal.SIGTERM) == [1, 1], out


def test_a_killed_pdsh_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    with job(rig, tmp_path) as started:
        os.kill(started.find("pdsh"), signal.SIGKILL)
        code, out = started.end()
        assert code == 137, out


def test_ranks_that_have_lost_their_launch_hear_too(rig: Rig, tmp_path: Path) -> None:
    with job(rig, tmp_path) as started:
        for host in rig.hosts:
            for pid in (pid for pid, line in host.processes().items() if line.startswith(f"{sys.executable} -X")):
                os.kill(pid, signal.SIGKILL)
        started.process.send_signal(signal.SIGTERM)
        code, out = started.end()
        assert code == -signal.SIGTERM, out
        assert times_heard(out, signal.SIGTERM) == [1, 1], out


def test_a_rank_that_heeds_no_signal_is_killed(rig: Rig, tmp_path: Path) -> None:
    with job(rig, tmp_path, "deaf", grace_s=1.0) as started:
        started.process.send_signal(signal.SIGTERM)
        code, out = started.end()
        assert code == -signal.SIGTERM, out
        assert times_heard(out, signal.SIGTERM) == [1, 1], out


def test_a_second_signal_ends_the_grace(rig: Rig, tmp_path: Path) -> None:
    with job(rig, tmp_path, "deaf", grace_s=10 * DEADLINE_S) as started:

        def has_ended() -> bool:
            started.process.send_signal(signal.SIGINT)
            return started.process.poll() is not None

        until(has_ended, timeout_s=DEADLINE_S, what="the end")
        code, out = started.end()
        assert code == -signal.SIGINT, out


def test_another_job_of_the_same_user_goes_on(rig: Rig, tmp_path: Path) -> None:
    first, second = rig.hosts
    with job(rig, tmp_path) as started, others_job(second, tmp_path, first.address) as others:
        started.process.send_signal(signal.SIGTERM)
        started.process.communicate(timeout=DEADLINE_S)
        assert first.processes() == {}
        assert sorted(second.processes())[0] == others.pid
        assert "sleep 600" in second.processes().values()


def test_a_host_that_is_cut_off_is_named_soon(rig: Rig, tmp_path: Path) -> None:
    with job(rig, tmp_path) as started:
        with rig.cut(1):
            started.process.send_signal(signal.SIGTERM)
            out, _ = started.process.communicate(timeout=DEADLINE_S)
        assert started.process.returncode == -signal.SIGTERM, out
        assert f"could not reach {rig.hosts[1].address} to end the ranks there" in out.splitlines()[-1]
        assert rig.hosts[0].processes() == {}
