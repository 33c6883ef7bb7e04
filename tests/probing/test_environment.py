"""What the processes that autofit starts find in their environment."""

from __future__ import annotations

import os

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.probing.environment import script_environment, without_place, worker_environment

# As a Kubernetes job, torchrun, Open MPI, MPICH, MVAPICH, DeepSpeed's launcher and accelerate's leave them.
LEFT = {
    "RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "10.255.255.1", "MASTER_PORT": "1", "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "0", "ROLE_RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "True",
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "3", "PMIX_RANK": "0", "PMI_SIZE": "4",
    "MPI_LOCALNRANKS": "4", "MV2_COMM_WORLD_SIZE": "4", "LOCAL_SIZE": "4", "CROSS_SIZE": "2", "NODE_RANK": "1",
    "FORK_LAUNCHED": "1",
}  # fmt: skip
CHOSEN_BY_ACCELERATE = {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_MIXED_PRECISION": "fp16"}
MEANT = {"NCCL_DEBUG": "INFO", "HF_HOME": "/models", "SLURM_JOB_ID": "7", "GLOO_SOCKET_IFNAME": "eth0"}


@pytest.fixture(autouse=True)
def within_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**LEFT, **CHOSEN_BY_ACCELERATE, **MEANT}.items():
        monkeypatch.setenv(name, value)


def test_autofits_own_training_has_no_place_in_another_job() -> None:
    environment = worker_environment(DeviceKind.CPU)
    assert not environment.keys() & (LEFT.keys() | CHOSEN_BY_ACCELERATE.keys())
    assert MEANT.items() <= environment.items()
    assert environment["DS_ACCELERATOR"] == "cpu"


def test_a_script_has_all_that_deepspeeds_launcher_would_pass_on() -> None:
    environment = script_environment(DeviceKind.CPU)
    assert {**LEFT, **CHOSEN_BY_ACCELERATE, **MEANT}.items() <= environment.items()


def test_the_place_of_a_process_is_left_out_and_nothing_else() -> None:
    assert without_place(os.environ).keys() == os.environ.keys() - LEFT.keys()
