"""`autofit` beside `deepspeed` on the same command lines: what ranks see, what is printed, how it ends.

The ranks import nothing heavy; all command lines are started at the first test, a few at a time.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from _pytest.mark import ParameterSet

from tests.spread import with_matrix
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[1]
DEEPSPEED = (str(BIN / "deepspeed"),)
AUTOFIT = (str(BIN / "autofit"), "launch", "--autofit-off")
DEADLINE_S = 120.0

SCRIPT = f"""#!{sys.executable}
import json, os, signal, sys, time
rank = os.environ["RANK"]
with open(f"rank{{rank}}.json", "w") as stream:
    json.dump({{"argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ), "flags": str(sys.flags)}}, stream)
os.write(1, f"rank {{rank}} was here\\n".encode())  # in one piece, whatever the other rank writes
way = sys.argv[-1]
if way == "die":
    sys.exit(3)
if way == "one-dies" and rank == "1":
    sys.exit(4)
if way.startswith("SIG"):
    os.kill(os.getpid(), getattr(signal, way))
if way in ("wait", "one-dies"):
    open(f"ready{{rank}}-{{os.getpid()}}", "w").close()
    time.sleep(600)
"""

PDSH = """#!/bin/sh
# One node, this one: pdsh without ssh. The kill command is only written down.
while [ "$1" != -w ]; do shift; done
shift 2
case "$*" in pkill*) echo "$*" > killed; exit 0;; esac
exec sh -c "exec $(echo "$*" | sed 's/%n/0/; s/.*cd [^;]*;//')"
"""

FILES = {
    "see.py": SCRIPT,
    "two_hosts": "# comment\n\na slots=2\nb slots=2 # more\n",
    "here": "localhost slots=2\n",
    "twice": "a slots=1\na slots=2\n",
    "bin/pdsh": PDSH,
}


@dataclass(frozen=True)
class Case:
    line: str
    exit_code: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join([*(f"{name}={value}" for name, value in self.environment.items()), self.line])


def ok(line: str, **environment: str) -> Case:
    return Case(line, 0, environment)


def refused(line: str, **environment: str) -> Case:
    return Case(line, 1, environment)


def usage(line: str) -> Case:
    return Case(line, 2)


ALONE = "--no_ssh_check --master_addr 127.0.0.1"
PDSH_HERE = f"-H here --force_multi {ALONE}"
CASES = [
    ok("see.py a 'b c' '' --x=1 -q --num_gpus 3 --autofit-off"),
    ok("--num_gpus 1 --master_port 31234 see.py"),
    ok("--num_acc=2 --launcher_arg=-x --master_p 31235 -- see.py -- a"),
    ok("--module see a"),
    ok("--no_python ./see.py a"),
    ok("--no_local_rank see.py a"),
    ok("--enable_each_rank_log logs see.py"),
    ok("-q see.py"),
    ok("-i localhost:1 see.py"),
    ok(f"-H here {ALONE} see.py"),
    ok(f"-H two_hosts --inc b:1 {ALONE} see.py"),
    ok("-H two_hosts --no_ssh --node_rank 1 --master_addr 127.0.0.1 see.py"),
    ok("see.py", CUDA_VISIBLE_DEVICES="1,0"),
    ok("--num_gpus 1 see.py", CUDA_VISIBLE_DEVICES="1"),
    ok(f"{PDSH_HERE} see.py a", NCCL_DEBUG="INFO"),
    Case("see.py die", 3),
    Case("see.py SIGKILL", 247),
    Case("see.py SIGSEGV", 245),
    Case("see.py one-dies", 4),
    Case(f"{PDSH_HERE} see.py die", 3),
    usage("nowhere.py"),
    usage(""),
    usage("--elastic_training see.py"),
    usage("--num 2 see.py"),
    refused("--no_python --module see"),
    refused("--bind_core_list 0-x --bind_cores_to_rank see.py"),
    refused("-i localhost:0 -e localhost:1 see.py"),
    refused("-i localhost:7 see.py"),
    refused("-i localhost:0 --num_gpus 1 see.py"),
    refused("--num_nodes 2 see.py"),
    refused(f"-H twice {ALONE} see.py"),
    refused("-H two_hosts --no_ssh --master_addr 127.0.0.1 see.py"),
    refused(f"-H two_hosts --launcher slurm {ALONE} see.py"),
]


@dataclass(frozen=True)
class Run:
    """What one command line did, without what differs from one time to the next."""

    code: int
    ranks: dict[str, dict[str, object]]
    lines: list[str]


def make_folder(folder: Path) -> None:
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def environment_of(folder: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(folder / "bin"), str(BIN), os.defpath])
    return {"PATH": path, "HOME": str(folder), "DS_ACCELERATOR": "cpu", "LOCAL_SIZE": "2", "ODD": "a\nb=c", **more}


def run(program: tuple[str, ...], case: Case, folder: Path) -> Run:
    make_folder(folder)
    ended = subprocess.run(
        [*program, *shlex.split(case.line)],
        cwd=folder,
        env=environment_of(folder, **case.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    ranks = {path.name: json.loads(_plain(path.read_text(), folder)) for path in folder.glob("rank*.json")}
    lines = sorted(line for line in _plain(ended.stdout, folder).splitlines() if not _is_of_a_traceback(line))
    return Run(ended.returncode, ranks, lines)


def _plain(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "FOLDER")
    text = re.sub(r"(/bin/python)[\d.]+", r"\1", text)  # the name of this Python in each program's first line
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+", "NOW", text)
    text = re.sub(r"(process|subprocess|Process) \d+", r"\1 PID", text)
    return re.sub(r"'--local_rank=\d'(.*exits with)", r"'--local_rank=N'\1", text)  # whichever was found dead first


def _is_of_a_traceback(line: str) -> bool:
    return line.startswith(("  ", "Traceback")) or not line


class Runs:
    """Every case with both programs, a few at a time."""

    def __init__(self, cases: list[Case], folder: Path) -> None:
        self._pool = ThreadPoolExecutor(4)
        self._runs: dict[tuple[str, tuple[str, ...]], Future[Run]] = {}
        for number, case in enumerate(cases):
            for program in (DEEPSPEED, AUTOFIT):
                where = folder / str(number) / Path(program[0]).name
                self._runs[case.name, program] = self._pool.submit(run, program, case, where)

    def of(self, case: Case, program: tuple[str, ...]) -> Run:
        return self._runs[case.name, program].result(DEADLINE_S)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    chosen = [item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")]
    started = Runs([case for case in chosen if isinstance(case, Case)], tmp_path_factory.mktemp("same"))
    yield started
    started.close()


def spread(cases: list[Case]) -> Iterator[ParameterSet]:
    """One in five always; the rest are the matrix's."""
    for number, case in enumerate(cases):
        yield pytest.param(case, id=case.name, marks=[pytest.mark.matrix] if number % 5 else [])


@pytest.mark.parametrize("case", spread(CASES))
def test_the_same_as_deepspeed(case: Case, runs: Runs) -> None:
    theirs, ours = runs.of(case, DEEPSPEED), runs.of(case, AUTOFIT)
    assert theirs.code == case.exit_code
    assert ours == theirs
    assert bool(ours.ranks) == (case.exit_code not in (1, 2))


class Live:
    """A command whose two ranks have come up and wait; whatever it leaves is put away."""

    def __init__(self, program: tuple[str, ...], folder: Path, line: str = "see.py wait") -> None:
        make_folder(folder)
        self._folder = folder
        self.process = subprocess.Popen(
            [*program, *shlex.split(line)],
            cwd=folder,
            env=environment_of(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(lambda: len(self.ranks()) == 2)

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nobody is left
        self.process.wait(DEADLINE_S)

    def ranks(self) -> list[int]:
        return [int(path.name.rpartition("-")[2]) for path in self._folder.glob("ready*")]

    def node_launcher(self) -> int:
        """launch.py, the parent of the ranks."""
        return psutil.Process(self.ranks()[0]).ppid()

    def ended(self) -> int:
        return self.process.wait(DEADLINE_S)

    def are_ranks_gone(self) -> bool:
        return not any(map(psutil.pid_exists, self.ranks()))


@pytest.mark.parametrize("number", with_matrix([signal.SIGTERM], [signal.SIGINT, signal.SIGHUP]))
def test_a_signal_to_the_command_ends_the_ranks(number: signal.Signals, tmp_path: Path) -> None:
    """`deepspeed` ends the same way, and leaves its ranks."""
    with Live(AUTOFIT, tmp_path) as job:
        job.process.send_signal(number)
        assert job.ended() == -number
        assert job.are_ranks_gone()


@pytest.mark.parametrize("program", [DEEPSPEED, AUTOFIT], ids=["deepspeed", "autofit"])
def test_an_interrupt_of_the_whole_group(program: tuple[str, ...], tmp_path: Path) -> None:
    with Live(program, tmp_path) as job:
        os.killpg(job.process.pid, signal.SIGINT)
        assert job.ended() == -signal.SIGINT
        wait_until(job.are_ranks_gone)


def test_a_killed_launch_is_no_success(tmp_path: Path) -> None:
    """`deepspeed` reports 0, and leaves its ranks."""
    with Live(AUTOFIT, tmp_path) as job:
        os.kill(job.node_launcher(), signal.SIGKILL)
        assert job.ended() == 137
        assert job.are_ranks_gone()


@pytest.mark.parametrize("number", with_matrix([signal.SIGHUP], [signal.SIGTERM]))
def test_with_pdsh_the_ranks_of_all_nodes_are_ended(number: signal.Signals, tmp_path: Path) -> None:
    """`deepspeed` ends with 1 after SIGTERM and leaves its ranks after SIGHUP; here it is as on one node."""
    with Live(AUTOFIT, tmp_path, f"{PDSH_HERE} see.py wait") as job:
        job.process.send_signal(number)
        assert job.ended() == -number
        assert job.are_ranks_gone()


@pytest.mark.skipif(not (ROOT / ".venv/bin/autofit").exists(), reason="nothing is installed into .venv")
def test_under_the_name_of_deepspeed(tmp_path: Path) -> None:
    """With bin/ first on PATH; nothing is tuned in a script that names no config. The shell adds three variables."""
    theirs = run(DEEPSPEED, ok("see.py a"), tmp_path / "theirs" / "x")
    ours = run((str(ROOT / "bin" / "deepspeed"),), ok("see.py a"), tmp_path / "ours" / "y")
    assert ours.code == theirs.code
    assert [line for line in theirs.lines if line not in ours.lines] == []
    for name, rank in theirs.ranks.items():
        seen = ours.ranks[name]
        assert seen["argv"] == rank["argv"]
        assert {key: seen["env"][key] for key in rank["env"]} == rank["env"]
        assert seen["env"].keys() - rank["env"].keys() <= {"_", "PWD", "SHLVL", "OLDPWD"}


def test_the_pid_file_has_the_name_of_the_command(tmp_path: Path) -> None:
    """--save_pid: `/tmp/PID.deepspeed`, PID being what the user started."""
    with Live(AUTOFIT, tmp_path, "--save_pid see.py wait") as job:
        pid_file = Path(f"/tmp/{job.process.pid}.deepspeed")
        assert int(pid_file.read_text()) == job.node_launcher()
        pid_file.unlink()
