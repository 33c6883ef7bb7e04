"""What the tests of scripts run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.probing.agent import Agent
from tests.worker.script.bench import Bench


@pytest.fixture
def bench(agent: Agent, tmp_path: Path) -> Bench:
    bench = Bench(agent, tmp_path, [])
    kept = bench.home / "kept/global_step7"
    kept.mkdir(parents=True)
    (kept / "weights.pt").write_bytes(b"of last week")
    (bench.home / "train.log").write_text("of last week")
    return bench
