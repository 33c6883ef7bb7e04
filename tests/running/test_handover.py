"""The hand-over with a stand-in for DeepSpeed's launcher: everybody hears a signal once, and nobody is left."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from autofit.domain.job_end import Completed, Interrupted
from autofit.domain.outcome import Killed, Phase
from tests.build_process import baton_file, left_lock
from tests.running.job import Job
from tests.waiting import DEADLINE_S, is_alive, wait_until

pytestmark = pytest.mark.slow

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def ignore(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def test_the_launcher_gets_all_that_we_have(tmp_path: Path) -> None:
    (tmp_path / "launcher.py").write_text(
        "import json, os, signal, sys\n"
        "mask = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]\n"
        "print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), sys.stdin.read(), mask, os.getpgrp()]))\n"
        "print('complaint', file=sys.stderr)\n"
        "sys.exit(5)"
    )
    environment = {"PATH": os.environ["PATH"], "ODD": "a\nb=c"}
    pipe = subprocess.PIPE
    with Job(tmp_path, "a b", "", "--x", env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as job:
        out, err = job.process.communicate(b"typed", DEADLINE_S)
        words, folder, seen, typed, mask, group = json.loads(out)
        assert (words, folder, typed, mask, group) == (["a b", "", "--x"], str(tmp_path), "typed", [], job.process.pid)
        assert {name: value for name, value in seen.items() if name != "LC_CTYPE"} == environment
        assert err == b"complaint\n"
        assert job.ended() == 5


def test_an_end_without_fault(tmp_path: Path) -> None:
    with Job(tmp_path, "heed") as job:
        job.wait_started()
        job.finish()
        assert job.ended() == 0
        assert job.heard() == []
        assert job.end == Completed()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_reaches_every_rank_once(tmp_path: Path, number: signal.Signals) -> None:
    with Job(tmp_path, "heed") as job:
        job.wait_started()
        job.process.send_signal(number)
        assert job.ended() == -number
        assert job.heard() == [f"rank0 {number.name}", f"rank1 {number.name}", "saved 0", "saved 1"]
        assert job.end == Interrupted(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_ranks_that_heed_nothing_in_particular_are_gone(tmp_path: Path, number: signal.Signals) -> None:
    with Job(tmp_path, "plain") as job:
        job.wait_started()
        job.process.send_signal(number)
        assert job.ended() == -number


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_whole_group(tmp_path: Path, number: signal.Signals) -> None:
    with Job(tmp_path, "plain") as job:
        job.wait_started()
        os.killpg(job.process.pid, number)
        assert job.ended() == -number


def test_two_signals_at_once_are_one(tmp_path: Path) -> None:
    """`timeout` sends two: a rank that saves may still do so."""
    with Job(tmp_path, "heed") as job:
        job.wait_started()
        job.process.send_signal(signal.SIGTERM)
        wait_until(lambda: len(job.heard()) >= 2)
        job.process.send_signal(signal.SIGTERM)
        assert job.ended() == -signal.SIGTERM
        assert job.heard() == ["rank0 SIGTERM", "rank1 SIGTERM", "saved 0", "saved 1"]


def test_ranks_that_will_not_end_are_killed(tmp_path: Path) -> None:
    with Job(tmp_path, "deaf", grace_s=0.2) as job:
        job.wait_started()
        job.process.send_signal(signal.SIGTERM)
        assert job.ended() == -signal.SIGTERM
        assert job.heard() == ["rank0 SIGTERM", "rank1 SIGTERM"]


def test_a_second_signal_ends_the_grace(tmp_path: Path) -> None:
    with Job(tmp_path, "deaf", grace_s=10 * DEADLINE_S) as job:
        job.wait_started()

        def has_ended() -> bool:
            job.process.send_signal(signal.SIGINT)
            return job.process.poll() is not None

        wait_until(has_ended)
        assert job.ended() == -signal.SIGINT
        assert job.heard() == ["rank0 SIGINT", "rank1 SIGINT"]


def test_a_killed_launcher_is_no_success(tmp_path: Path) -> None:
    with Job(tmp_path, "plain") as job:
        job.wait_started()
        os.kill(job.pids()[0], signal.SIGKILL)
        assert job.ended() == 137
        assert isinstance(job.end, Killed)
        assert (job.end.rank, job.end.phase, job.end.signal) == (None, Phase.SCRIPT, signal.SIGKILL)


def test_ranks_whose_launcher_was_killed_are_gone(tmp_path: Path) -> None:
    with Job(tmp_path, "plain") as job:
        job.wait_started()
        os.kill(job.pids()[1], signal.SIGKILL)
        job.ended()


def test_what_a_rank_leaves_behind_is_gone(tmp_path: Path) -> None:
    with Job(tmp_path, "daemon", env=os.environ | {"MARK": str(tmp_path)}) as job:
        job.wait_started()
        job.finish()
        assert job.ended() == 0
        assert _marked(tmp_path) == []


def _marked(folder: Path) -> list[str]:
    """Processes of a job, by a mark in their environment."""
    marked = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={folder}".encode() in (path / "environ").read_bytes() and is_alive(int(path.name)):
                marked.append((path / "cmdline").read_text())
        except OSError:
            pass  # gone, or not ours
    return marked


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_is_ignored_from_the_start_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    with Job(tmp_path, "heed", preexec_fn=partial(ignore, number)) as job:
        job.wait_started()
        job.process.send_signal(number)
        job.finish()
        assert job.ended() == 0
        assert job.heard() == []


def test_a_launch_that_has_no_rank_yet_hears_the_signal_itself(tmp_path: Path) -> None:
    (tmp_path / "launch.py").write_text(
        """
from tell import *
tell_signals("launch", lambda number: os._exit(1))
tell(f"pid {os.getpid()}")
time.sleep(600)
"""
    )
    with Job(tmp_path) as job:
        job.wait_started(2)
        job.process.send_signal(signal.SIGTERM)
        assert job.ended() == -signal.SIGTERM
        assert job.heard() == ["launch SIGTERM"]


def test_a_back_end_passes_the_signal_on_itself(tmp_path: Path) -> None:
    """mpirun and srun: their ranks here are theirs to end, like those on the other nodes."""
    (tmp_path / "launcher.py").write_text(
        'from tell import *\nmpirun = subprocess.Popen([sys.executable, "launch.py", "mpirun", "heed"])\n'
        'tell(f"pid {os.getpid()}")\nmpirun.wait()\n'
    )
    with Job(tmp_path, grace_s=0.2) as job:
        job.wait_started()
        job.process.send_signal(signal.SIGTERM)
        assert job.ended() == -signal.SIGTERM
        assert job.heard() == ["launch SIGTERM"]


def test_only_files_of_this_job_leave_shared_memory(tmp_path: Path) -> None:
    port = os.getpid()  # of no job
    name = f"deepspeed_allreduce_buffer_{os.getuid()}_127.0.0.1_{port}"
    before, after = Path(f"/dev/shm/{name}_0"), Path(f"/dev/shm/{name}_1")
    (tmp_path / "launcher.py").write_text(f"open({str(after)!r}, 'w').close()")
    before.touch()
    try:
        with Job(tmp_path, port=port) as job:
            assert job.ended() == 0
        assert (before.exists(), after.exists()) == (True, False)
    finally:
        before.unlink()
        after.unlink(missing_ok=True)


def test_locks_of_builds_that_died_are_taken_away_before_the_job_and_its_own_after_it(tmp_path: Path) -> None:
    """Left of an earlier job, torch would wait for it for ever; this one is killed in the middle of a build, too."""
    lock = left_lock(tmp_path / "builds/op")
    (tmp_path / "launcher.py").write_text(
        "import runpy\nfrom tell import *\n"
        'assert runpy.run_path(sys.argv[1])["FileBaton"](sys.argv[2]).try_acquire()\n'
        'tell(f"pid {os.getpid()}")\ntime.sleep(600)\n'
    )
    environment = os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path / "builds")}
    with Job(tmp_path, baton_file(), str(lock), env=environment) as job:
        job.wait_started(1)
        assert lock.exists()
        job.process.send_signal(signal.SIGTERM)
        assert job.ended() == -signal.SIGTERM
        assert not lock.exists()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: ours, and the job's."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def take_terminal(theirs: int) -> None:
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("way", ["note_signals", "alone"])
def test_control_c_is_heard_once(tmp_path: Path, terminal: tuple[int, int], way: str) -> None:
    """By the terminal's whole group, and by ranks that have left it."""
    ours, theirs = terminal
    settings = {"stdin": theirs, "start_new_session": False, "preexec_fn": partial(take_terminal, theirs)}
    with Job(tmp_path, way, **settings) as job:  # type: ignore[arg-type]
        job.wait_started()
        os.write(ours, b"\x03")
        assert job.ended() == -signal.SIGINT
        heard = ["rank0 SIGINT", "rank1 SIGINT", "saved 0", "saved 1"]
        assert job.heard() == ["launch SIGINT", *heard]
