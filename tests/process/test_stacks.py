"""The stacks of processes that stand still come into their log, whatever they are at."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autofit.process import stacks
from autofit.process.process_state import ProcessState, process_state
from autofit.process.stacks import Asked, write_stacks
from tests.waiting import wait_until

HANGS = """
import threading
from autofit.process.stacks import answer_with_stacks
answer_with_stacks()

def waits_for_the_others():
    print("there", flush=True)
    threading.Lock().acquire() and threading.Event().wait()

waits_for_the_others()
"""


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two of them, with one log."""
    with (tmp_path / "log").open("ab") as log:
        started = [subprocess.Popen([sys.executable, "-c", HANGS], stdout=log, stderr=log) for _ in range(2)]
    wait_until(lambda: (tmp_path / "log").read_text().count("there") == 2)
    yield started
    for one in started:
        one.kill()
        one.wait()


def test_each_has_its_own_under_its_title_one_that_is_stopped_too(
    hanging: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    hanging[0].send_signal(signal.SIGSTOP)
    wait_until(lambda: process_state(hanging[0].pid) is ProcessState.STOPPED)
    write_stacks([Asked(one.pid, f"rank {n}") for n, one in enumerate(hanging)], tmp_path / "log")
    _, second, first = (tmp_path / "log").read_text().split("--- the stacks of ")
    assert second.startswith("rank 1 ---")
    assert first.startswith("rank 0 ---")
    for own in (first, second):
        assert "in waits_for_the_others" in own
    assert all(one.poll() is None for one in hanging)


def test_who_does_not_answer_is_not_waited_for_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_EACH_S", 0.2)
    ended = subprocess.Popen(["true"])
    ended.wait()
    with subprocess.Popen(["sh", "-c", f"trap '' {stacks.STACKS_SIGNAL}; echo; exec sleep 600"], stdout=-1) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        write_stacks([Asked(ended.pid, "rank 0"), Asked(deaf.pid, "rank 1")], tmp_path / "log")
        assert (tmp_path / "log").read_text().count("--- the stacks of") == 2
        deaf.kill()
