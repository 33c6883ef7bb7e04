"""Real ranks save what ZeRO-3 divides between them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import DEADLINE_S
from tests.worker.saving.two_ranks import KINDS, RANKS, make

pytestmark = pytest.mark.slow


def test_ranks_write_one_model_together_in_little_memory_and_fail_together(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.worker.saving.two_ranks", str(tmp_path)]
    ended = subprocess.run(command, timeout=3 * DEADLINE_S, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    for model_type in KINDS:
        make(model_type).save_pretrained(tmp_path / model_type / "theirs")
        ours, apart, theirs = (
            (tmp_path / model_type / name / "model.safetensors").read_bytes() for name in ("shared", "apart", "theirs")
        )
        assert ours == theirs
        assert apart == theirs
    found = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(RANKS)]
    assert {one["full"].partition(":")[0] for one in found} == {
        f"there is no space left for {tmp_path / 'full'}, whose weights take 432 kB"
    }
    assert list((tmp_path / "full").iterdir()) == []
    size_bytes = (tmp_path / "large" / "model.safetensors").stat().st_size
    assert size_bytes > 150_000_000
    assert max(one["grown_bytes"] for one in found) < size_bytes / 20
