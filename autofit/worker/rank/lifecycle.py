"""One rank's life: its memory cap, its heartbeats, and the report that it always leaves."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from autofit.domain.hardware import DeviceKind
from autofit.domain.masking import masked
from autofit.domain.outcome import Phase
from autofit.planning.probe_steps import MEMORY_STEPS
from autofit.probing.protocol import (
    NO_ROOM_EXIT,
    Job,
    RankDiverged,
    RankFailed,
    RankReport,
    RankStopped,
    ScriptJob,
    to_line,
)
from autofit.process.files import FULL_ERRNOS, write_whole
from autofit.worker.energy.energy_meter import energy_meter
from autofit.worker.rank.failure import TrainingDiverged, TrainingStopped, rank_failed
from autofit.worker.rank.memory_meter import Meter, meter
from autofit.worker.rank.out_of_memory import free_device_bytes
from autofit.worker.rank.seldom import Seldom

_PR_SET_PDEATHSIG = 1
_SIGNALLED = 128
# Where the memory meter keeps what peaked and looks anew; forward and backward alternate too often for it, and so may
# steps after the first ones, which show what is needed.
_MARKED = {Phase.BUILD, Phase.INITIALIZE, Phase.GENERATE, Phase.STEP, Phase.EVALUATE, Phase.SAVE}
_OFTEN = {Phase.GENERATE, Phase.STEP}  # once a step

Send = Callable[[Phase, int], None]


class Rank:
    """A rank by where it is and what it holds. `send` carries a heartbeat to whoever watches."""

    def __init__(self, job: Job | ScriptJob, send: Send) -> None:
        self.index = int(os.environ["RANK"])
        self.phase = Phase.START
        self.step = 0
        self._send = send
        self._room_bytes = job.device_memory_bytes
        self._probed_bytes = (job.probed_peak_bytes or 0) if isinstance(job, Job) else 0
        self.meter: Meter = meter(job.kind.value)
        self.energy = energy_meter(job.kind.value)
        self._mark_seldom = Seldom(self.meter.mark)
        if job.memory_limit_bytes is not None:
            self.meter.cap(job.memory_limit_bytes)

    def keep_freed(self) -> None:
        """Ends the steps that show what memory is needed, as the meter does, where it is known how much there is."""
        if self._room_bytes is not None:
            self.meter.keep_freed(self._room_bytes, self._probed_bytes)

    def enter(self, phase: Phase) -> None:
        """Sends a heartbeat, and marks the memory of the phase that ends."""
        if phase in _MARKED and phase is not self.phase:
            (self._mark_seldom if phase in _OFTEN and self.step >= MEMORY_STEPS else self.meter.mark)()
        self.phase = phase
        self._send(phase, self.step)


def run_guarded(job: Job | ScriptJob, report_path: Path, send: Send, body: Callable[[Rank], RankReport]) -> int:
    """Runs `body` and leaves its report, or the report of its failure, at `report_path`; the exit code to end with."""
    rank: Rank | None = None
    try:
        rank = Rank(job, send)
        report = body(rank)
    except TrainingStopped as stopped:
        report = RankStopped(stopped.step, stopped.signal)
        return _left(report, report_path, _SIGNALLED + (stopped.signal or signal.SIGTERM))
    except BaseException as error:  # whatever it is, the report must be left
        code = _left(_ended_by(error, rank, job), report_path, 1)
        print_traceback()
        return code
    return _left(report, report_path, 0)


def _left(report: RankReport, path: Path, code: int) -> int:
    """Leaves the report; the exit code to end with, which says it where there is no room for a report."""
    try:
        write_report(report, path)
    except OSError as error:
        print_traceback()
        return NO_ROOM_EXIT if error.errno in FULL_ERRNOS else code or 1
    return code


def _ended_by(error: BaseException, rank: Rank | None, job: Job | ScriptJob) -> RankFailed | RankDiverged:
    """The report of a rank that raised `error`; `rank` is None where that was before it had begun."""
    phase = rank.phase if rank else Phase.START
    if isinstance(error, TrainingDiverged):
        return RankDiverged(error.divergence, phase, time.time())
    peak_bytes = rank.meter.peak_device_bytes() if rank else None
    is_on_cpu, free_bytes = job.kind is DeviceKind.CPU, free_device_bytes()
    return rank_failed(
        error,
        phase,
        is_on_cpu=is_on_cpu,
        peak_bytes=peak_bytes,
        free_device_bytes=free_bytes,
        is_script=isinstance(job, ScriptJob),
    )


def write_report(report: RankReport, path: Path) -> None:
    """Writes the report whole, for whoever watches the ranks may look at any moment."""
    write_whole(path, to_line(report))


def leave(report: RankReport, path: Path) -> NoReturn:
    """Leaves `report` and ends this process with all below it: no destructors, not another line of a script."""
    end_process(_left(report, path, 1 if isinstance(report, RankFailed) else 0))


def end_process(code: int) -> NoReturn:
    """Ends this process at once: engines and process groups take seconds to die politely. Workers of a data loader end
    with it."""
    import psutil

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's would raise here that a worker was killed
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a script may have closed it
            stream.flush()
    os._exit(code)


def print_traceback() -> None:
    """Prints the traceback of the exception that is being handled to the log, without the environment's secrets."""
    import traceback

    try:
        print(masked(traceback.format_exc(), os.environ), file=sys.stderr, end="", flush=True)
    except MemoryError:
        os.write(2, b"no memory left to print the traceback\n")
    except OSError:  # no room for it in the log, or nobody who reads it
        return


def die_with_parent() -> None:
    """Has Linux send SIGKILL to this process when the process that forked it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def set_threads(rank_count: int) -> None:
    """Divides the cores among the ranks on a CPU, of which each would take all. accelerate reads the variable, too."""
    import torch

    thread_count = max(1, len(os.sched_getaffinity(0)) // rank_count)
    os.environ["OMP_NUM_THREADS"] = str(thread_count)
    torch.set_num_threads(thread_count)
