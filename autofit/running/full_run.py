"""The full run from its start to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from autofit.domain.event import RankEvent
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.request import Request
from autofit.domain.run_end import MergeFailed, RunEnd
from autofit.hardware.cgroup import oom_kill_count
from autofit.probing.evidence import Evidence
from autofit.process.child import run_to_end
from autofit.process.python import module_command, worker_environment
from autofit.process.rendezvous import is_shared_full
from autofit.running.result import run_end
from autofit.running.standby import Standby
from autofit.running.training_command import TrainingFiles
from autofit.running.training_process import Launcher


def train(
    hardware: Hardware,
    files: TrainingFiles,
    log_path: Path,
    show: Callable[[RankEvent], None],
    *,
    standby: Standby | None = None,
    oom_kill_count: Callable[[], int | None] = oom_kill_count,
) -> RunEnd:
    """Runs the training to its end, whatever that is.

    `show` has what the ranks say of it, as it comes; `standby` may have a launcher that waits for it; `oom_kill_count`
    counts the processes that the kernel has killed.
    """
    for path in (*files.reports.glob("rank[0-9]*.json"), files.progress):
        path.unlink(missing_ok=True)  # an earlier start's
    began_at_s, kills_before = time.monotonic(), oom_kill_count() or 0
    with Launcher(hardware, files, log_path, standby=standby) as launcher:
        for event in launcher.watch():
            show(event)
        was_shared_full = is_shared_full()  # before what the ranks left there is taken away
    evidence = Evidence(
        ends=launcher.ends,
        oom_kills=(oom_kill_count() or 0) - kills_before,
        log_path=str(log_path),
        total_s=time.monotonic() - began_at_s,
        exit_code=launcher.exit_code,
        timed_out=launcher.timed_out,
        is_shared_full=was_shared_full,
    )
    return run_end(evidence, rank_count=hardware.rank_count, model_path=files.model)


def merge(
    hardware: Hardware, request: Request, *, adapter: Path, out: Path, dtype: Dtype, log_path: Path
) -> MergeFailed | None:
    """Makes one model of the request's and the adapter; None when that is done."""
    command = [*module_command("autofit.worker.merge"), "--base", request.model, "--adapter", str(adapter)]
    command += ["--out", str(out), "--dtype", dtype.value]
    command += ["--trust-remote-code"] if request.trust_remote_code else []
    with log_path.open("ab") as log:
        exit_code = run_to_end(command, log, environment=worker_environment(hardware.kind))
    return None if exit_code == 0 else MergeFailed(str(adapter))
