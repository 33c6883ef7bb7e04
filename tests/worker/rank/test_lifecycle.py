"""How a rank meets the others, how it ends itself, and the report that it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.probing.protocol import NO_ROOM_EXIT, FailureKind, Job, RankFailed, read_report
from autofit.worker.rank import lifecycle
from tests.builders import make_request, make_rung

# torch's own handler raises, in whatever line runs, that a data loader's worker was killed.
_ENDS_WITH_A_WORKER = """
import os, signal, subprocess, sys
from autofit.worker.rank.lifecycle import end_process

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
    monkeypatch.setattr(lifecycle, "free_device_bytes", lambda: free_bytes)
    strategy = Strategy(
        make_rung(1),
        1,
        1,
    )
    job = Job(make_request(global_batch=1), strategy, "{}", DeviceKind.CPU, 1)

    def body(life: lifecycle.Rank) -> NoReturn:
        life.enter(Phase.FORWARD)
        raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`")

    assert lifecycle.run_guarded(job, tmp_path / "rank0.json", lambda phase, step: None, body) == 1
    report = read_report((tmp_path / "rank0.json").read_bytes())
    assert isinstance(report, RankFailed)
    assert (report.kind, report.phase) == (kind, Phase.FORWARD)


_NO_ROOM = """
import os, resource, sys
from pathlib import Path
from autofit.domain.hardware import DeviceKind
from autofit.probing.protocol import Job
from autofit.worker.rank import lifecycle
from autofit.domain.strategy import Strategy
from tests.builders import make_request, make_rung

os.environ["RANK"] = "0"
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
job = Job(make_request(), Strategy(make_rung(1), 1, 1), "{}", DeviceKind.CPU, 1)

def body(life):
    if sys.argv[2] == "fails":
        raise KeyError("its neighbour is gone")

sys.exit(lifecycle.run_guarded(job, Path(sys.argv[1]), lambda phase, step: None, body))
"""


@pytest.mark.parametrize("how", ["fails", "succeeds"])
def test_a_rank_whose_report_finds_no_room_says_so_with_its_exit_code(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", _NO_ROOM, str(tmp_path / "rank0.json"), how]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == NO_ROOM_EXIT, ended.stderr
    assert "File too large" in ended.stderr
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


def test_nor_does_the_log_quote_a_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "marked0123")
    try:
        raise RuntimeError("key marked0123 was refused")
    except RuntimeError:
        lifecycle.print_traceback()
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("RuntimeError: key *** was refused\n")


# Groups as torch, DeepSpeed and accelerate (through a device mesh) make them, and what NCCL's would have.
_TIMEOUTS = """
import sys
from pathlib import Path
from types import SimpleNamespace

from autofit.domain.hardware import DeviceKind
from autofit.worker.rank.process_group import join_group

join_group(
    SimpleNamespace(kind=DeviceKind.CPU, is_rehearsal=False, rank_count=1, deepspeed_config="{}"), Path(sys.argv[1])
)

import torch
from deepspeed.utils import groups
from torch import distributed
from torch.distributed import distributed_c10d

made = [distributed.group.WORLD, distributed.new_group([0]), groups._clone_world_group()]
made.append(distributed.device_mesh.init_device_mesh("cpu", (1,)).get_group())
print(*(group._get_backend(torch.device("cpu")).options._timeout for group in made))
print(distributed_c10d._get_default_timeout("nccl"), distributed_c10d._get_default_store().timeout)
"""


@pytest.mark.slow
def test_every_group_waits_an_hour_whoever_makes_it(tmp_path: Path) -> None:
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "7"}
    environment = {**os.environ, **place, "LOCAL_SIZE": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-c", _TIMEOUTS, str(tmp_path / "store")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout.splitlines()[-2:] == ["1:00:00 1:00:00 1:00:00 1:00:00", "1:00:00 1:00:00"], ended.stderr
