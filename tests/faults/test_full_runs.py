"""Faults of a full run: each is told for what it was, and what was saved is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.bench import RunBench
from tests.faults.fault import Fault
from tests.faults.job import Inputs
from tests.faults.kinds import RUN_FAULTS, RUN_FAULTS_ALWAYS
from tests.spread import with_matrix

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", with_matrix(RUN_FAULTS_ALWAYS, RUN_FAULTS), ids=str)
def test_a_fault_in_a_full_run_is_told_and_loses_nothing(inputs: Inputs, fault: Fault, tmp_path: Path) -> None:
    bench = RunBench(inputs, tmp_path)
    bench.train(fault).check(fault)
    bench.check_kept(fault)
