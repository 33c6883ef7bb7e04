"""How a rank ends itself, and the report that it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.request import Request
from autofit.domain.strategy import Attention, Dtype, Method, Offload, Rung, Strategy
from autofit.probing.protocol import FailureKind, Job, RankFailed, read_report
from autofit.worker import rank

# torch's own handler raises, in whatever line runs, that a data loader's worker was killed.
_ENDS_WITH_A_WORKER = """
import os, signal, subprocess, sys
from autofit.worker.rank import end_process

def on_child(number, frame):
    raise RuntimeError("worker is killed by signal")

def exit_when_it_is_dead(code):
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    really_exit(code)

signal.signal(signal.SIGCHLD, on_child)
worker = subprocess.Popen(["sleep", "60"])
really_exit, os._exit = os._exit, exit_when_it_is_dead
end_process(0)
"""


def test_workers_of_a_data_loader_end_with_their_rank_in_silence() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _ENDS_WITH_A_WORKER], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("free_bytes", "kind"),
    [(2**20, FailureKind.OUT_OF_MEMORY), (2**34, FailureKind.CRASHED), (None, FailureKind.CRASHED)],
)
def test_what_the_driver_has_left_is_part_of_a_failure(
    free_bytes: int | None, kind: FailureKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(rank, "free_device_bytes", lambda: free_bytes)
    strategy = Strategy(Rung(Method.FULL, 1, Offload.NONE, False, Attention.SDPA, Dtype.BF16), 1, 1)
    job = Job(Request("a-model", 64, 1), strategy, "{}", DeviceKind.CPU, 1)

    def body(life: rank.Rank) -> NoReturn:
        life.enter(Phase.FORWARD)
        raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`")

    assert rank.run_guarded(job, tmp_path / "rank0.json", lambda phase, step: None, body) == 1
    report = read_report((tmp_path / "rank0.json").read_bytes())
    assert isinstance(report, RankFailed)
    assert (report.kind, report.phase) == (kind, Phase.FORWARD)
