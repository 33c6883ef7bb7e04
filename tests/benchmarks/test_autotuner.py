"""What DeepSpeed's autotuner leaves behind, read back."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from _autotuner import Tuned, tune
from _case import Case, make_case, strategy

from autofit.domain.knobs.method import Method
from tests.waiting import wait_until

OPTIMAL = {"train_batch_size": 8, "train_micro_batch_size_per_gpu": 2, "zero_optimization": {"stage": 2}}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path, sequence_length=64, global_batch=8, limit_bytes=10**9, method=Method.FULL)


def play(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """`script` in the place of `deepspeed`, in the folder where the autotuner works."""
    monkeypatch.setattr("_autotuner._command", lambda case, port: [sys.executable, "-c", script])


def test_its_pick_is_read_from_the_optimal_configuration(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = f"""
import json, pathlib
results = pathlib.Path("autotuning_results")
for name in ("profile_model_info", "z1_gas4_tmbspg1", "z2_gas2_tmbspg2"):
    (results / name).mkdir(parents=True)
    (results / name / "exp.json").write_text("{{}}")
(results / "ds_config_optimal.json").write_text({json.dumps(OPTIMAL)!r})
"""
    play(monkeypatch, leave)
    tuned = tune(case, tmp_path / "autotuner", 60.0)
    assert tuned == Tuned(tuned.tune_s, 3, strategy(Method.FULL, 2, False, 2, 8), 8, is_cut_off=False)


def test_one_that_hangs_is_ended_with_everything_it_started(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline comes once both of its processes are there."""
    hang = "import os, pathlib, signal; os.fork(); pathlib.Path(f'pid{os.getpid()}').touch(); signal.pause()"
    play(monkeypatch, hang)
    folder = tmp_path / "autotuner"

    def wait(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None:
            return really_wait(process)
        wait_until(lambda: len(list(folder.glob("pid*"))) == 2)
        raise subprocess.TimeoutExpired(process.args, timeout)

    really_wait = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    tuned = tune(case, folder, 2.0)
    assert tuned.is_cut_off
    assert tuned.strategy is None
    pids = [int(path.name[3:]) for path in folder.glob("pid*")]
    assert len(pids) == 2
    assert all(_has_ended(pid) for pid in pids)


def _has_ended(pid: int) -> bool:
    """The kernel needs a moment to take down one that was killed."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor, "rb") as ending:
        return bool(select.select([ending], [], [], 60.0)[0])
