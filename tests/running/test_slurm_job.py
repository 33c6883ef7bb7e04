"""When Slurm is asked to start a job again, and when better not."""

from __future__ import annotations

import subprocess

import pytest

from autofit.domain.run_end import Requeue
from autofit.running.slurm_job import SlurmJob

SHOWN = "JobId=7 JobName=ft.sh JobState=RUNNING Reason=None Requeue=1 Restarts=0 BatchFlag=1 Command=a=b"


class Slurm:
    """Stands for `scontrol`."""

    def __init__(self, shown: str = SHOWN) -> None:
        self.shown = shown
        self.heard: list[list[str]] = []

    def __call__(self, command: list[str]) -> str:
        self.heard.append(command)
        return self.shown if "show" in command else ""


def job() -> SlurmJob:
    found = SlurmJob.of({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"})
    assert found == SlurmJob("7", 2)
    return found


def test_a_running_batch_job_that_may_be_requeued_is() -> None:
    slurm = Slurm()
    assert job().requeue(slurm) is Requeue.ASKED
    assert slurm.heard[-1] == ["scontrol", "requeue", "7"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("Requeue=1", "Requeue=0"), Requeue.NOT_ALLOWED),
        (("BatchFlag=1", "BatchFlag=0"), Requeue.NOT_ALLOWED),  # of salloc
        (("RUNNING", "CANCELLED"), Requeue.ENDING),  # by scancel: it would come back
        (("RUNNING", "COMPLETING"), Requeue.ENDING),
    ],
)
def test_another_is_left_alone(wrong: tuple[str, str], told: Requeue) -> None:
    slurm = Slurm(SHOWN.replace(*wrong))
    assert job().requeue(slurm) is told
    assert all("requeue" not in command for command in slurm.heard)


@pytest.mark.parametrize("error", [FileNotFoundError("scontrol"), subprocess.CalledProcessError(1, "scontrol")])
def test_a_slurm_that_does_not_answer_is_told(error: Exception) -> None:
    def fail(command: list[str]) -> str:
        raise error

    assert job().requeue(fail) is Requeue.FAILED


def test_a_task_of_an_array_is_called_by_its_number() -> None:
    """The id alone may mean all of them."""
    task = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    assert SlurmJob.of(task) == SlurmJob("7_3", 0)


def test_outside_of_a_job_and_in_the_later_processes_of_a_step_nobody_asks() -> None:
    assert SlurmJob.of({}) is None
    assert SlurmJob.of({"SLURM_JOB_ID": "7", "SLURM_PROCID": "1"}) is None
