"""`autofit train` from its start to its choice, as a user would run it; what it decided is read from its run folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from _case import Case
from _child import end

from autofit.domain.strategy import Strategy
from autofit.runs.run_folder import RunFolder

DEADLINE_S = 900.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Decision:
    strategy: Strategy
    decide_s: float  # from the start of the command to the choice on disk
    probe_count: int  # with all ranks
    rehearsal_count: int  # of one rank
    trial_s: float  # spent in probes and rehearsals; side by side they count each
    why: str


def decide(case: Case, folder: Path, cache: Path) -> Decision:
    """The full run is interrupted as soon as the choice is known. `cache` is where autofit may remember things."""
    out = RunFolder(folder)
    log_path = folder.with_suffix(".log")
    with log_path.open("wb") as log:
        began_at_s = time.time()  # to be compared with a file's time
        process = subprocess.Popen(
            [sys.executable, "-m", "autofit", "train", *case.flags, "--output-dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(cache),
            start_new_session=True,
        )
        try:
            _await_choice(process, out.choice, began_at_s + DEADLINE_S)
        finally:
            end(process)
    choice, trials = out.read_choice(), out.read_trials()
    if choice is None:
        raise RuntimeError(f"autofit has not chosen:\n{log_path.read_text()[-2000:]}")
    rehearsal_count = sum(trial.is_rehearsal for trial in trials)
    return Decision(
        strategy=choice.strategy,
        decide_s=out.choice.stat().st_mtime - began_at_s,
        probe_count=len(trials) - rehearsal_count,
        rehearsal_count=rehearsal_count,
        trial_s=sum(trial.outcome.total_s for trial in trials),
        why=choice.why,
    )


def _environment(cache: Path) -> dict[str, str]:
    """Nothing is remembered from earlier runs but DeepSpeed's compiled kernels, which every party finds compiled."""
    return os.environ | {"AUTOFIT_CACHE": str(cache)}


def _await_choice(process: subprocess.Popen[bytes], choice: Path, until_s: float) -> None:
    while process.poll() is None and not choice.exists() and time.time() < until_s:
        time.sleep(_POLL_S)
