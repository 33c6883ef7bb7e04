"""Today's estimates against what GPUs said once: every recording of benchmarks/gpu_suite.py, replayed without a GPU."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from _recording import Recording, read_recording
from _suite_figures import as_recorded, compare, regressions

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RECORDINGS = sorted((BENCHMARKS / "results").glob("*-gpu-*.json"))


@pytest.mark.skipif(not RECORDINGS, reason="no GPU was recorded yet")
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_what_was_foreseen_on_a_gpu_still_is(path: Path) -> None:
    recording = read_recording(path)
    assert recording.measured
    assert regressions(recording) == []


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A probe and two rehearsals of a toy model on this CPU."""
    out = tmp_path_factory.mktemp("suite") / "recording.json"
    command = [sys.executable, BENCHMARKS / "gpu_suite.py", "--device", "cpu", "--budget-s", "240", "--out", out]
    subprocess.run([*command, "--only", "1.1B zero1+gc"], check=True, timeout=280, stdout=subprocess.DEVNULL)
    return read_recording(out)


@pytest.mark.slow
def test_a_recording_rebuilds_every_estimate_to_the_byte(here: Recording) -> None:
    assert len(here.measured) >= 3
    assert all(row.has_trace for row in here.rows)
    assert [each.estimate for each in compare(here)] == [each.estimate for each in as_recorded(here)]
    assert regressions(here) == []


@pytest.mark.slow
def test_a_trace_that_says_something_else_is_found_out(here: Recording) -> None:
    """With the recorded intervals around what was measured: a CPU's own runtime is not what this is about."""
    rows = tuple(
        replace(row, trial=replace(row.trial, outcome=replace(row.measured, peak_device_bytes=each.memory.peak_bytes)))
        for row, each in ((row, row.trial.estimate) for row in here.measured)
    )
    fitting = replace(here, rows=rows)
    assert regressions(fitting) == []
    moments = here.models[0].traces[0].moments
    heavier = tuple(replace(moment, activations_bytes=moment.activations_bytes + 10**9) for moment in moments)
    traces = tuple(replace(trace, moments=heavier) for trace in here.models[0].traces)
    worse = replace(fitting, models=(replace(here.models[0], traces=traces), *here.models[1:]))
    assert any("no longer between" in words for words in regressions(worse))
