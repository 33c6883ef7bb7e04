"""The full run from its start to its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from autofit.domain.errors import TrainingFailed
from autofit.domain.event import Note, TrainingEnded, TrainingProgress
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.dtype import Dtype
from autofit.probing.child import run_to_end
from autofit.probing.environment import worker_environment
from autofit.probing.python import module_command
from autofit.running.command import TrainingFiles
from autofit.running.launcher import Launcher
from autofit.running.result import read_reports, training_ended


def train(
    hardware: Hardware, files: TrainingFiles, log_path: Path, show: Callable[[TrainingProgress | Note], None]
) -> TrainingEnded:
    """Runs the training to its end; TrainingFailed says in which phase of which rank it stopped.

    `show` has what the ranks say of it, as it comes.
    """
    for path in (*files.reports.glob("rank[0-9]*.json"), files.progress):
        path.unlink(missing_ok=True)  # an earlier start's
    began_at_s = time.monotonic()
    with Launcher(hardware, files, log_path) as launcher:
        for event in launcher.watch():
            show(event)
    return training_ended(
        read_reports(files.reports, hardware.rank_count),
        rank_count=hardware.rank_count,
        exit_code=launcher.exit_code,
        model_path=files.model,
        log_path=log_path,
        total_s=time.monotonic() - began_at_s,
    )


def merge(hardware: Hardware, *, base: str, adapter: Path, out: Path, dtype: Dtype, log_path: Path) -> None:
    """Base model and adapter as one; TrainingFailed names the log, and the adapter stays as it is."""
    command = [*module_command("autofit.worker.merge"), "--base", base, "--adapter", str(adapter)]
    command += ["--out", str(out), "--dtype", dtype.value]
    with log_path.open("ab") as log:
        exit_code = run_to_end(command, log, environment=worker_environment(hardware.kind))
    if exit_code != 0:
        raise TrainingFailed(f"merging failed, the adapter in {adapter} is whole; the log is {log_path}")
