"""How a rank ends itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

_ENDS_WITH_A_WORKER = """
import psutil
from torch.utils.data import DataLoader
from autofit.worker.rank import end_process

batches = iter(DataLoader(range(64), num_workers=1))
next(batches)
kill = psutil.Process.kill

def kill_and_see(process):  # torch's handler of SIGCHLD raises in whatever line runs when a worker is killed
    kill(process)
    while process.status() != psutil.STATUS_ZOMBIE:
        pass

psutil.Process.kill = kill_and_see
end_process(0)
"""


@pytest.mark.slow
def test_workers_of_a_data_loader_end_with_their_rank_in_silence() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _ENDS_WITH_A_WORKER], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "killed by signal" not in ended.stderr
