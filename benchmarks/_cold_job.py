"""One strategy as a whole new `deepspeed` job: launcher, imports, real weights and data, a few steps, a saved model."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from _case import RANKS, Case

from autofit.domain.errors import TrainingFailed
from autofit.domain.outcome import Measured
from autofit.domain.request import Training
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choice
from autofit.probing.classify import first_failure
from autofit.probing.protocol import RankFailed
from autofit.report.run_folder import RunFolder
from autofit.running.result import read_reports
from autofit.running.training import train
from autofit.spec import training_files

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
    try:
        ended = train(case.hardware, training_files(run), run.training_log, lambda progress: None)
    except TrainingFailed as error:
        return ColdJob(strategy, time.monotonic() - began_at_s, failure=_failure(run, error))
    return ColdJob(strategy, ended.total_s, ended.tokens_per_s, ended.peak_device_bytes)


def _schedule() -> Training:
    return Training(max_steps=STEPS, extra_arguments=("--save_strategy", "no"))


def _failure(run: RunFolder, error: TrainingFailed) -> str:
    reports = read_reports(run.logs, RANKS)
    failed = {rank: report for rank, report in reports.items() if isinstance(report, RankFailed)}
    return first_failure(failed)[1].kind.value if failed else str(error).splitlines()[0]
