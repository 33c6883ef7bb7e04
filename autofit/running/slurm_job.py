"""The batch job of Slurm that this process is a part of, and asking that it be started again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autofit.domain.run_end import Requeue

_TIMEOUT_S = 10.0  # the controller is busy, or gone; the grace goes on meanwhile

Run = Callable[[list[str]], str]
"""Runs a command; gives what it printed. OSError or SubprocessError where it failed."""


@dataclass(frozen=True)
class SlurmJob:
    """`name` is as `scontrol` takes it: of an array's task with its number, for the plain id may mean all of them."""

    name: str
    restart_count: int

    @staticmethod
    def of(environment: Mapping[str, str]) -> SlurmJob | None:
        """The job by its variables (sbatch(1)); None outside of one, and in all but the first process of a step."""
        job = environment.get("SLURM_JOB_ID")
        if job is None or environment.get("SLURM_PROCID", "0") != "0":
            return None
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        restarts = environment.get("SLURM_RESTART_COUNT", "")
        name = job if array is None or task is None else f"{array}_{task}"
        return SlurmJob(name, int(restarts) if restarts.isdecimal() else 0)

    def requeue(self, run: Run | None = None) -> Requeue:
        """Asks Slurm to start the job again, where it may: not one that was cancelled, which would come back."""
        run = run or _run
        try:
            told = _fields(run(["scontrol", "--oneliner", "show", "job", self.name]))
            if told.get("Requeue") != "1" or told.get("BatchFlag") == "0":
                return Requeue.NOT_ALLOWED
            if told.get("JobState") != "RUNNING":
                return Requeue.ENDING
            run(["scontrol", "requeue", self.name])
        except (OSError, subprocess.SubprocessError):
            return Requeue.FAILED
        return Requeue.ASKED


def _fields(line: str) -> dict[str, str]:
    """`JobId=7 JobState=RUNNING …`, by name."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def _run(command: list[str]) -> str:
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
    )
    return ended.stdout
