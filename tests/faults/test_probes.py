"""Faults of a probe's ranks: each is told for what it was, and the agent takes the next probe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.bench import ProbeBench
from tests.faults.fault import Fault
from tests.faults.kinds import PROBE_FAULTS, PROBE_FAULTS_ALWAYS, PROBE_SILENCE_S
from tests.spread import with_matrix

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", with_matrix(PROBE_FAULTS_ALWAYS, PROBE_FAULTS), ids=str)
def test_a_fault_in_a_probe_is_told_and_leaves_nothing(probe_bench: ProbeBench, fault: Fault, tmp_path: Path) -> None:
    probe_bench.meet(fault, tmp_path, silence_s=PROBE_SILENCE_S).check(fault)
