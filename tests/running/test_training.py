"""The merge after a training, with a stand-in for Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from builders import make_hardware

from autofit.domain.errors import TrainingFailed
from autofit.domain.strategy import Dtype
from autofit.probing.python import module_command
from autofit.running.training import merge


def test_merging_is_a_module_of_this_python_and_its_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started as the other modules are, so that a user's datasets.py does not stand for the library."""
    python, log_path = tmp_path / "python", tmp_path / "merge.log"
    python.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(TrainingFailed, match=r"the adapter in .*adapter is whole; the log is .*merge\.log"):
        merge(
            make_hardware(), base="b", adapter=tmp_path / "adapter", out=tmp_path / "out", dtype=Dtype.BF16,
            log_path=log_path,
        )  # fmt: skip
    words = log_path.read_text().split()
    assert words[: words.index("--base")] == module_command("autofit.worker.merge")[1:]
