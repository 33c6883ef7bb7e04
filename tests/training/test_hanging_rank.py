"""A real rank that is stopped in the middle of a training is told by its number, with the stacks of all in the log."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from autofit.app.probe_specs import training_files
from autofit.domain.event import RankEvent, TrainingProgress
from autofit.domain.outcome import TimedOut
from autofit.process.rank_place import read_place
from autofit.running.full_run import train
from autofit.running.stall_judge import LEAST_S, STEPPING
from autofit.running.supervision import Supervision
from autofit.runs.run_folder import RunFolder
from tests.fast_clock import FastClock
from tests.training.runs import Case, training, write_run

pytestmark = pytest.mark.slow


def test_a_rank_that_is_stopped_is_named_and_all_stacks_are_in_the_log(
    model: Path, rows: Callable[[int], Path], tmp_path: Path
) -> None:
    """With the deadline of a real run, whose steps have been seen for some looks: it is longer before."""
    run, case, clock = RunFolder(tmp_path / "run"), Case(), FastClock()
    run.create()
    hardware = write_run(run, case, training(model, rows(64), epochs=500.0))
    files = training_files(run, case.rung)

    looks: set[int] = set()

    def stop(event: RankEvent) -> None:
        if isinstance(event, TrainingProgress):
            looks.add(clock.look_count)
        if len(looks) > 5 and not clock.is_fast:
            place = read_place(files.reports, 1)
            assert place is not None
            os.kill(place.process_id, signal.SIGSTOP)
            clock.is_fast = True

    end = train(hardware, files, run.training_log, stop, supervision=Supervision(clock=clock))
    assert isinstance(end, TimedOut), end
    assert (end.rank, end.after_s) == (1, LEAST_S)
    assert end.phase in STEPPING
    _, first, second = run.training_log.read_text().split("--- the stacks of rank ")
    assert first.startswith("0, in ")  # it could answer at once
    assert second.startswith("1, in ")
    for stacks in (first, second):
        assert "most recent call first" in stacks
        assert "_inner_training_loop" in stacks
