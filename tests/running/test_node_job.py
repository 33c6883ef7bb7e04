"""What of a job is found on a node, and ended there."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from autofit.running.node_job import NodeJob
from tests.waiting import DEADLINE_S

_WAITS = "import time; print(flush=True); time.sleep(600)"


@pytest.fixture
def job() -> NodeJob:
    return NodeJob(uuid.uuid4().hex, "127.0.0.1", "29500", "0")


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def waiting_for(job: NodeJob, node: str, ending: ExitStack, *before: str) -> subprocess.Popen[bytes]:
    """A process with the words of one that waits on a node until the job has ended there, behind others if there are
    any."""
    words = [job.mark, job.master_addr, job.master_port, node, str(int(signal.SIGINT)), "900.0"]
    process = subprocess.Popen([sys.executable, *before, "-c", _WAITS, *words], stdout=subprocess.PIPE)
    ending.callback(process.communicate)
    ending.callback(process.kill)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_kill_ends_who_waits_for_the_same_job_on_the_same_node(job: NodeJob, ending: ExitStack) -> None:
    own, other = waiting_for(job, job.node, ending), waiting_for(job, "1", ending)
    brought = waiting_for(job, job.node, ending, "-u")
    assert [process.pid for process in job.waiting()] == [own.pid]
    assert job.end(signal.SIGKILL, 0.0)
    assert own.wait(DEADLINE_S) == -signal.SIGKILL
    assert other.poll() is brought.poll() is None


def test_another_signal_leaves_who_waits(job: NodeJob, ending: ExitStack) -> None:
    own = waiting_for(job, job.node, ending)
    assert job.end(signal.SIGTERM, 5.0)
    assert own.poll() is None
