"""A child and what it starts: however it ends, nothing of its group is left."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autofit.probing.child import Child

Start = Callable[[str], Child]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Runs a line of shell in the test's folder; it goes on once the line has made the file `there`."""

    def start(line: str) -> Child:
        with (tmp_path / "log").open("ab") as log:
            child = Child(["sh", "-c", f"cd {tmp_path}; {line}"], log)
        _until((tmp_path / "there").exists)
        return child

    return start


def _until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_outlives_it_is_killed(start: Start, tmp_path: Path) -> None:
    child = start("sleep 600 & echo $! > pids; touch there; exit 3")
    helper = int((tmp_path / "pids").read_text())
    _until(lambda: child.exit_code is not None)
    assert not _is_gone(helper)
    assert child.end(0.0) == 3
    _until(lambda: _is_gone(helper))


def test_what_has_a_process_group_of_its_own_is_killed_as_well(start: Start, tmp_path: Path) -> None:
    """As ninja's compilers have."""
    moves = "import os, time; os.setpgid(0, 0); print(os.getpid(), flush=True); open('there', 'w'); time.sleep(600)"
    child = start(f'{sys.executable} -c "{moves}" > pids')
    compiler = int((tmp_path / "pids").read_text())
    assert child.kill() == -signal.SIGKILL
    _until(lambda: _is_gone(compiler))


def test_it_may_end_by_itself_within_the_patience(start: Start, tmp_path: Path) -> None:
    child = start("trap 'echo asked; exit 5' INT; touch there; while :; do sleep 0.01; done")
    assert not child.has_ended(0.0)
    child.send_signal(signal.SIGINT)
    assert child.end(30.0) == 5
    assert (tmp_path / "log").read_text() == "asked\n"


def test_it_is_killed_when_it_does_not(start: Start) -> None:
    child = start("trap '' INT TERM; touch there; while :; do sleep 600; done")
    assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid
    child.send_signal(signal.SIGINT)
    assert child.end(0.05) == child.exit_code == -signal.SIGKILL


def test_a_signal_for_nobody_is_none(start: Start) -> None:
    child = start("touch there")
    child.end(30.0)
    child.send_signal(signal.SIGTERM)
    assert child.exit_code == 0
