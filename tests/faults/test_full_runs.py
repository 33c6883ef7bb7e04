"""Faults of a full run: each is told for what it was, and what was saved is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.domain.event import TrainingEnded
from autofit.domain.outcome import Phase
from tests.faults.bench import RunBench, losses
from tests.faults.fault import Fault, killed
from tests.faults.job import STEPS, Inputs
from tests.faults.kinds import RUN_FAULTS, RUN_FAULTS_ALWAYS
from tests.spread import with_matrix

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", with_matrix(RUN_FAULTS_ALWAYS, RUN_FAULTS), ids=str)
def test_a_fault_in_a_full_run_is_told_and_loses_nothing(inputs: Inputs, fault: Fault, tmp_path: Path) -> None:
    bench = RunBench(inputs, tmp_path)
    bench.train(fault).check(fault)
    bench.check_kept(fault)


@pytest.mark.matrix
def test_a_training_that_is_killed_again_once_it_goes_on_ends_as_one_that_never_was(
    inputs: Inputs, tmp_path: Path
) -> None:
    undisturbed, bench = (RunBench(inputs, tmp_path / name) for name in ("undisturbed", "killed"))
    for one in (undisturbed, bench):
        one.folder.mkdir()
    assert isinstance(undisturbed.train().end, TrainingEnded)
    told: list[dict[int, float]] = []
    # Each counts from where that training begins: in step 3, in step 5, and before the first step.
    for fault in (
        killed(Phase.STEP, 1, 3, saved_step=2),
        killed(Phase.STEP, 0, 3, saved_step=4),
        killed(Phase.INITIALIZE, 1, saved_step=4),
    ):
        bench.train(fault).check(fault)
        bench.check_kept(fault)
        told.append(losses(bench.run.progress))
    assert isinstance(bench.train().end, TrainingEnded)
    told.append(losses(bench.run.progress))
    expected = losses(undisturbed.run.progress)
    assert set(expected) == set(range(1, STEPS + 1))
    for start in told:
        assert start == {step: expected[step] for step in start}
    assert set().union(*told) == set(expected)
    assert bench.surroundings.rows == undisturbed.surroundings.rows
