"""The merge after a training, with a stand-in for Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.run_end import MergeFailed
from autofit.process.python import module_command
from autofit.running.full_run import merge
from tests.builders import make_hardware, make_request


def test_merging_is_a_module_of_this_python_and_its_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started as the other modules are, so that a user's datasets.py does not stand for the library."""
    python, log_path = tmp_path / "python", tmp_path / "merge.log"
    python.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    adapter = tmp_path / "adapter"
    machine, out = make_hardware(), tmp_path / "out"
    failed = merge(machine, make_request("b"), adapter=adapter, out=out, dtype=Dtype.BF16, log_path=log_path)
    assert failed == MergeFailed(str(adapter))
    words = log_path.read_text().split()
    assert words[: words.index("--base")] == module_command("autofit.worker.merge")[1:]
