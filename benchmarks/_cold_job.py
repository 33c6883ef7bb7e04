"""One strategy as a whole new `deepspeed` job: launcher, imports, real weights and data, a few steps, a saved model."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from _case import Case

from autofit.app.probe_specs import training_files
from autofit.domain.event import TrainingEnded
from autofit.domain.outcome import Measured, OutOfMemory
from autofit.domain.request import Training
from autofit.domain.run_end import RunFailure
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choice
from autofit.report.run_end_text import run_failure_text
from autofit.running.full_run import train
from autofit.runs.run_folder import RunFolder

STEPS = 6  # two of them for warming up, as in a probe
_UNMEASURED = Measured(0, 0, 0.0, 0.0, 0.0, 0.0)  # choice.json has to hold something; the job does not read it


@dataclass(frozen=True)
class ColdJob:
    strategy: Strategy
    total_s: float
    tokens_per_s: float | None = None  # None when it did not train
    peak_bytes: int | None = None  # of the fullest rank
    failure: str | None = None  # what kept it from training: `out_of_memory`, or a crash's own words


def cold_job(case: Case, strategy: Strategy, folder: Path) -> ColdJob:
    """Under the case's memory limit; a strategy that does not fit is an answer like any other."""
    run = RunFolder(folder)
    run.create()
    run.write_request(replace(case.request, training=_schedule()))
    run.write_choice(Choice(strategy, _UNMEASURED, "a benchmark"))
    run.write_ds_config(case.deepspeed_config(strategy))
    began_at_s = time.monotonic()
    end = train(case.hardware, training_files(run, strategy.rung), run.training_log, lambda progress: None)
    if not isinstance(end, TrainingEnded):
        return ColdJob(strategy, time.monotonic() - began_at_s, failure=_failure(end, run))
    return ColdJob(strategy, end.total_s, end.tokens_per_s, end.peak_device_bytes)


def _schedule() -> Training:
    return Training(max_steps=STEPS, extra_arguments=("--save_strategy", "no"))


def _failure(end: RunFailure, run: RunFolder) -> str:
    if isinstance(end, OutOfMemory):
        return "out_of_memory"
    return run_failure_text(end, run.training_log).splitlines()[0]
