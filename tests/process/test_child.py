"""A child and what it starts: however it ends, nothing of its group is left."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autofit.process.child import Child
from tests.waiting import is_alive, wait_until

Start = Callable[[str], Child]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Runs a line of shell in the test's folder; it goes on once the line has made the file `there`."""

    def start(line: str) -> Child:
        with (tmp_path / "log").open("ab") as log:
            child = Child(["sh", "-c", f"cd {tmp_path}; {line}"], log)
        wait_until((tmp_path / "there").exists)
        return child

    return start


def test_what_outlives_it_is_killed(start: Start, tmp_path: Path) -> None:
    child = start("sleep 600 & echo $! > pids; touch there; exit 3")
    helper = int((tmp_path / "pids").read_text())
    wait_until(lambda: child.exit_code is not None)
    assert is_alive(helper)
    assert child.end(0.0) == 3
    wait_until(lambda: not is_alive(helper))


def test_what_has_a_process_group_of_its_own_is_killed_as_well(start: Start, tmp_path: Path) -> None:
    """As ninja's compilers have."""
    moves = "import os, time; os.setpgid(0, 0); print(os.getpid(), flush=True); open('there', 'w'); time.sleep(600)"
    child = start(f'{sys.executable} -c "{moves}" > pids')
    compiler = int((tmp_path / "pids").read_text())
    assert child.kill() == -signal.SIGKILL
    wait_until(lambda: not is_alive(compiler))


def test_it_may_end_by_itself_within_the_grace_period(start: Start, tmp_path: Path) -> None:
    child = start("trap 'echo asked; exit 5' INT; touch there; while :; do sleep 0.01; done")
    assert not child.has_ended(0.0)
    child.send_signal(signal.SIGINT)
    assert child.end(60.0) == 5
    assert (tmp_path / "log").read_text() == "asked\n"


def test_it_is_killed_when_it_does_not(start: Start) -> None:
    child = start("trap '' INT TERM; touch there; while :; do sleep 600; done")
    assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid
    child.send_signal(signal.SIGINT)
    assert child.end(0.05) == child.exit_code == -signal.SIGKILL


def test_a_signal_for_nobody_is_none(start: Start) -> None:
    child = start("touch there")
    child.end(60.0)
    child.send_signal(signal.SIGTERM)
    assert child.exit_code == 0
