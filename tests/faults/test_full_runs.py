"""Faults of a full run: each is told for what it was, and what was saved is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.domain.event import TrainingEnded
from autofit.domain.outcome import Crashed, Phase
from tests.faults.bench import RunBench, losses
from tests.faults.command import Command
from tests.faults.fault import Fault, killed
from tests.faults.job import STEPS, TOKENS, Inputs
from tests.faults.kinds import RUN_FAULTS, RUN_FAULTS_ALWAYS
from tests.faults.saboteur import Action, Order, write_orders
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


def test_what_no_probe_has_tried_and_crashes_at_its_start_is_searched_anew(inputs: Inputs, tmp_path: Path) -> None:
    """A training too short for a probe starts with what surely fits; there is another that trains."""
    words = ["train", "--model", str(inputs.model), "--data", str(inputs.data), "--seq", str(TOKENS), "--ranks", "2"]
    words += ["--batch-size", "8", "--method", "full", "--max-steps", "2", "--output-dir", str(tmp_path / "run")]
    command = Command(words, tmp_path)
    write_orders(command.surroundings.orders, Order(Action.BUG, "forward", 0, is_of_full_run=True))
    ended = command.complete()
    assert ended.exit_code == 0, ended.said
    assert "which no probe had tried: crashed in forward on rank 0: RuntimeError" in ended.said
    assert "nothing is lost, and it is searched now" in ended.said
    first, choice = command.run.read_trials()[0], command.run.read_choice()
    assert isinstance(first.outcome, Crashed)
    assert choice is not None
    assert choice.strategy.rung != first.strategy.rung
    assert command.step_count() == 2
    assert ended.left == ()
