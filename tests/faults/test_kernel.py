"""The kernel itself ends a rank for want of memory: that is told from the count of its control group."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from autofit.domain.outcome import OutOfMemory
from tests.faults.bench import ProbeBench, RunBench
from tests.faults.fault import Fault
from tests.faults.job import Inputs
from tests.faults.kinds import PROBE_SILENCE_S
from tests.faults.saboteur import GROUP, Action, Order
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.matrix]

_MOUNT = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def control_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A control group of this process and of all that it starts, which gets its limit from who is to break it."""
    groups = {line.split(":")[1]: line.split(":")[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    own, group = _MOUNT / groups.get("memory", "none").lstrip("/"), _MOUNT / f"autofit-test-{uuid.uuid4().hex}"
    try:
        (own / "cgroup.procs").read_text()  # where this process goes back to
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    monkeypatch.setenv(GROUP, str(group))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (own / "cgroup.procs").write_text(str(os.getpid()))
        wait_until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@pytest.mark.usefixtures("control_group")
def test_a_probe_that_the_kernel_ends_was_out_of_memory(inputs: Inputs, tmp_path: Path) -> None:
    fault = Fault(Order(Action.HOG, "forward", 1), OutOfMemory, ("memory",), rank=1)
    with ProbeBench.started(inputs, tmp_path) as bench:
        bench.meet(fault, tmp_path, silence_s=PROBE_SILENCE_S).check(fault)


@pytest.mark.usefixtures("control_group")
def test_a_full_run_that_the_kernel_ends_was_out_of_memory_and_loses_nothing(inputs: Inputs, tmp_path: Path) -> None:
    fault = Fault(Order(Action.HOG, "forward", 0, 7), OutOfMemory, ("memory",), rank=0, saved_step=2)
    bench = RunBench(inputs, tmp_path)
    bench.train(fault).check(fault)
    bench.check_kept(fault)
