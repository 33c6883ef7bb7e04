"""The full run from its start to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from autofit.domain.event import RankEvent
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.request import Request
from autofit.domain.run_end import MergeFailed, Preempted, RunEnd
from autofit.probing.evidence import Evidence
from autofit.process import signals
from autofit.process.child import run_to_end
from autofit.process.python import module_command, worker_environment
from autofit.process.rendezvous import is_shared_full
from autofit.running.result import run_end
from autofit.running.standby import Standby
from autofit.running.stop_request import TrainingPreempted
from autofit.running.supervision import USUAL, Supervision
from autofit.running.training_command import TrainingFiles
from autofit.running.training_process import Launcher


def train(
    hardware: Hardware,
    files: TrainingFiles,
    log_path: Path,
    show: Callable[[RankEvent], None],
    *,
    standby: Standby | None = None,
    supervision: Supervision = USUAL,
) -> RunEnd:
    """Runs the training to its end, whatever that is.

    `show` has what the ranks say of it, as it comes; `standby` may have a launcher that waits for it. Raises
    TrainingPreempted for a signal; one that comes while the trained model is saved is raised at the next wait after it.
    """
    for path in (*files.reports.glob("rank[0-9]*.json"), files.progress):
        path.unlink(missing_ok=True)  # an earlier start's
    oom_kill_count = supervision.oom_kill_count
    began_at_s, kills_before = time.monotonic(), oom_kill_count() or 0
    launcher = Launcher(hardware, files, log_path, standby=standby, supervision=supervision)
    with signals.held(), launcher:
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
    end = run_end(evidence, rank_count=hardware.rank_count, model_path=files.model)
    return _unless_preempted(end, launcher.stop.signal)


def _unless_preempted(end: RunEnd | Preempted, heard: int | None) -> RunEnd:
    """The end, where the signal that was `heard` did not bring it about; else raises TrainingPreempted."""
    if isinstance(end, Preempted):
        raise TrainingPreempted(end if heard is None else replace(end, signal=heard))
    if heard is not None:
        signals.put_back(heard)
    return end


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
