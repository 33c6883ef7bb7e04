"""A divided optimizer trains, saves and goes on as an undivided one, wherever its parts are before and after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.process.python import worker_environment
from autofit.process.rendezvous import free_port

DEADLINE_S = 300


@pytest.mark.slow
def test_it_is_the_same_training_wherever_its_optimizer_lies(tmp_path: Path) -> None:
    port = str(free_port())
    command = [sys.executable, "-m", "tests.worker.deepspeed.divided_ranks", str(tmp_path)]
    ranks = []
    for rank in ("0", "1"):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        environment = {**os.environ, **worker_environment(DeviceKind.CPU), **place, "MASTER_PORT": port}
        ranks.append(subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[3]))
    try:
        assert [process.wait(DEADLINE_S) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    found = json.loads((tmp_path / "found.json").read_text())
    losses, _ = found.pop("undivided")
    for name, (others, places) in found.items():
        assert others == pytest.approx(losses[-len(others) :], abs=2e-6), name
        is_divided = {"cpu", "cpu:0"} <= set(places)
        assert is_divided is (not name.endswith(("whole", "undivided"))), name
