"""Real ranks that do not use the same parameters wait for each other in the same order, and miss no gradient."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.waiting import DEADLINE_S
from tests.worker.fused_update.two_ranks import RANKS, made, trained_alone

pytestmark = pytest.mark.slow


def test_experts_that_only_one_rank_uses_learn_on_all_of_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.worker.fused_update.two_ranks", str(tmp_path)]
    ended = subprocess.run(command, timeout=DEADLINE_S, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(RANKS)]
    before, expected = made().state_dict(), trained_alone().state_dict()
    for name, weight in expected.items():
        assert not torch.equal(weight, before[name]), name
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], weight, rtol=1e-5, atol=1e-6)
