"""A rank and the signals that ask it to save and end, while its main thread is busy in a call that does not return."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autofit.domain.codec import to_json
from autofit.domain.outcome import Phase, Place
from autofit.probing.protocol import FailureKind, RankFailed, RankReport, RankStopped, RankTrained, to_line
from autofit.process.rank_place import RankPlace
from autofit.worker.training.full_run.neighbours import Neighbours

RANK = """
import ctypes, os, sys, time, threading
from pathlib import Path
from autofit.worker.training.full_run.neighbours import Neighbours
from autofit.worker.training.full_run.stop_signals import StopSignals

if "at once" in sys.argv:  # it comes to a child before anything that listen() has a child do
    os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), 15))
signals = StopSignals(Neighbours(Path(sys.argv[1]), 0, 2).has_lost_one)
signals.listen()
if len(sys.argv) > 2:  # a worker that loads data
    worker = os.fork()
    if worker == 0:
        time.sleep(60)
    print(worker, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), flush=True)

libc = ctypes.CDLL(None)
mutex, condition = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)  # zeros: their initializers

def tell():
    libc.pthread_mutex_lock(mutex)  # had once the main thread is within its wait, which gives it back
    print("listens", flush=True)
    while signals.heard is None:
        time.sleep(0.01)
    print(signals.heard, flush=True)

libc.pthread_mutex_lock(mutex)
threading.Thread(target=tell, daemon=True).start()
libc.pthread_cond_wait(condition, mutex)  # for ever, whatever signal comes
"""


@contextmanager
def rank(*words: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", RANK, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
def test_a_signal_is_noted_and_the_rank_lives(number: signal.Signals, tmp_path: Path) -> None:
    with rank(tmp_path) as process:
        assert said(process) == "listens"
        process.send_signal(number)
        assert said(process) == str(int(number))
        process.send_signal(signal.SIGTERM)  # a scheduler's second
        assert process.poll() is None


def leave_neighbour(reports: Path, report: RankReport | None = None) -> None:
    """A rank 1 that has ended, with its report."""
    child = subprocess.Popen(["true"])
    child.wait()
    (reports / "rank1-place.json").write_text(to_json(RankPlace(child.pid, Phase.STEP, 4)))
    if report is not None:
        (reports / "rank1.json").write_bytes(to_line(report))


FAILED = RankFailed(FailureKind.CRASHED, Phase.STEP, Place.DEVICE, "KeyError: 'a'", 1.0)


@pytest.mark.parametrize("report", [None, FAILED], ids=["killed", "failed"])
def test_where_another_rank_has_failed_sigterm_is_launch_py_s_and_ends_this_one(
    report: RankReport | None, tmp_path: Path
) -> None:
    """It would wait for that one in a collective for ever."""
    leave_neighbour(tmp_path, report)
    with rank(tmp_path) as process:
        assert said(process) == "listens"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


def test_after_an_interrupt_sigterm_ends_it_as_well(tmp_path: Path) -> None:
    """As launch.py sends it then, to a rank that is in a collective."""
    with rank(tmp_path) as process:
        assert said(process) == "listens"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


def test_a_neighbour_that_has_saved_and_ended_is_not_lost(tmp_path: Path) -> None:
    leave_neighbour(tmp_path, RankStopped(4, signal.SIGTERM))
    neighbours = Neighbours(tmp_path, 0, 2)
    assert not neighbours.has_lost_one()
    (tmp_path / "rank1.json").write_bytes(to_line(RankTrained(5, 3, 2, 2.5, 1.5, 100.0)))
    assert not neighbours.has_lost_one()
    (tmp_path / "rank1.json").unlink()
    assert neighbours.has_lost_one()


def test_what_a_rank_forks_dies_of_them_and_tells_the_rank_nothing(tmp_path: Path) -> None:
    with rank(tmp_path, "with a worker") as process:
        worker = int(said(process))
        subprocess.run(["kill", "-TERM", str(worker)], check=True)
        assert_only_the_worker_died(process)


def test_so_does_what_is_told_to_end_while_it_is_forked(tmp_path: Path) -> None:
    with rank(tmp_path, "with a worker", "at once") as process:
        assert int(said(process))
        assert_only_the_worker_died(process)


def assert_only_the_worker_died(process: subprocess.Popen[str]) -> None:
    assert said(process) == str(-signal.SIGTERM)
    assert said(process) == "listens"
    process.send_signal(signal.SIGUSR2)
    assert said(process) == str(int(signal.SIGUSR2))
