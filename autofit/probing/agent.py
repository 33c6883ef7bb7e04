"""The handle of the local agent: starts it, asks it, and leaves nothing of it behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from autofit.domain.errors import InternalError, UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Outcome, OutOfMemory, Phase, Place
from autofit.domain.request import Request
from autofit.domain.strategy import Strategy
from autofit.domain.trace import MicroStep
from autofit.domain.workload import DataProfile
from autofit.probing.classify import classify
from autofit.probing.protocol import (
    ONLY_TRACES,
    AgentFailed,
    Beat,
    Command,
    GroupEnded,
    Message,
    ProbeSpec,
    Ready,
    Refused,
    RunProbe,
    RunProbes,
    Survey,
    Surveyed,
    Traced,
    TraceModel,
    read_message,
    to_line,
)
from autofit.probing.shield import shielded

_POLITE_S = 3.0  # an agent that is asked to end has this long before it is killed
OnBeat = Callable[[Phase], None]
OnRehearsalBeat = Callable[[Strategy, Phase], None]


class Agent:
    """One agent process and the fork server under it, from `with` to the end of `with`."""

    def __init__(
        self,
        *,
        kind: DeviceKind,
        log_path: Path,
        oom_kill_count: Callable[[], int | None] = lambda: None,
        only_traces: bool = False,
    ) -> None:
        """`only_traces`: an agent that starts in half the time and is asked for nothing but traces."""
        self._kind = kind
        self._arguments = [ONLY_TRACES] if only_traces else []
        self._log_path = log_path
        self._oom_kill_count = oom_kill_count
        self._probe_count = 0
        self._ready: Ready | None = None

    def __enter__(self) -> Agent:
        receiving, sending = os.pipe()
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "autofit.worker.agent", str(sending), *self._arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[sending],
                env=worker_environment(self._kind),
                start_new_session=True,  # Ctrl-C is for the CLI, which then ends the agent in good order
            )
        os.close(sending)
        self._messages = os.fdopen(receiving, "rb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with shielded():
            self._close()

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_POLITE_S)
        except subprocess.TimeoutExpired:
            pass  # it is in the middle of an import; nothing of its is worth waiting for
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # the fork server, its helpers, a compiler
        except ProcessLookupError:
            pass  # all of them ended by themselves
        self._process.wait()
        self._messages.close()
        self._remove_shared_memory()

    def wait_ready(self) -> Ready:
        """Once everything is imported."""
        if self._ready is None:
            message = self._next()
            assert isinstance(message, Ready)
            self._ready = message
        return self._ready

    def survey(self, request: Request, *, log_path: Path) -> DataProfile:
        """The profile of the request's data; UsageError when something of it must be changed first."""
        self.wait_ready()
        self._send(Survey(request, str(log_path)))
        message = self._next()
        if isinstance(message, Refused):
            raise UsageError(message.message)
        assert isinstance(message, Surveyed)
        return message.profile

    def trace(self, request: Request, micro_steps: Sequence[MicroStep], *, log_path: Path) -> Traced:
        """The traces of the request's model, and why some have none; UsageError when there is no such model."""
        if not micro_steps:
            return Traced(())
        self.wait_ready()
        self._send(TraceModel(request, tuple(micro_steps), str(log_path)))
        message = self._next()
        if isinstance(message, Refused):
            raise UsageError(message.message)
        assert isinstance(message, Traced)
        return message

    def probe(self, spec: ProbeSpec, on_beat: OnBeat) -> Outcome:
        """Runs one probe to its end, whatever that is. The scratch folder is gone afterwards."""
        return self._run((spec,), lambda strategy, phase: on_beat(phase))[0]

    def rehearse(self, specs: Sequence[ProbeSpec], on_beat: OnRehearsalBeat) -> tuple[Outcome, ...]:
        """Runs rehearsals side by side, each to its own end; their outcomes in the order of `specs`.

        Each spec brings its own device, scratch and log. One for which the host's memory ran out is repeated alone: it
        may have been its neighbours' doing.
        """
        assert all(spec.job.is_rehearsal for spec in specs)
        outcomes = self._run(specs, on_beat)
        if len(specs) == 1:
            return outcomes
        return tuple(
            self._run((spec,), on_beat)[0] if _lacked_host_memory(outcome) else outcome
            for spec, outcome in zip(specs, outcomes, strict=True)
        )

    def _run(self, specs: Sequence[ProbeSpec], on_beat: OnRehearsalBeat) -> tuple[Outcome, ...]:
        self.wait_ready()
        probes = tuple(self._numbered(spec) for spec in specs)
        kills_before = self._oom_kill_count() or 0
        for spec in specs:
            Path(spec.scratch_path).mkdir(parents=True)
        try:
            self._send(RunProbes(probes))
            ended = self._until_ended(probes, on_beat)
        finally:
            for spec in specs:
                shutil.rmtree(spec.scratch_path, ignore_errors=True)
            self._remove_shared_memory()
        kills = (self._oom_kill_count() or 0) - kills_before
        return tuple(_outcome(ended[probe.number], probe.spec, kills) for probe in probes)

    def _numbered(self, spec: ProbeSpec) -> RunProbe:
        self._probe_count += 1
        return RunProbe(self._process.pid * 1000 + self._probe_count, spec)

    def _until_ended(self, probes: Sequence[RunProbe], on_beat: OnRehearsalBeat) -> dict[int, GroupEnded]:
        """How each probe ended, by its number."""
        strategies = {probe.number: probe.spec.job.strategy for probe in probes}
        ended: dict[int, GroupEnded] = {}
        while len(ended) < len(probes):
            message = self._next()
            if isinstance(message, GroupEnded):
                ended[message.number] = message
            else:
                assert isinstance(message, Beat)
                on_beat(strategies[message.number], message.phase)
        return ended

    def _send(self, command: Command) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(to_line(command))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise InternalError(f"the agent has ended; see {self._log_path}") from None

    def _next(self) -> Message:
        line = self._messages.readline()
        if not line:
            raise InternalError(f"the agent has ended; see {self._log_path}")
        message = read_message(line)
        if isinstance(message, AgentFailed):
            raise InternalError(f"the agent failed: {message.why}; see {self._log_path}")
        return message

    def _remove_shared_memory(self) -> None:
        """DeepSpeed's files of ranks that died before they could take them away."""
        for path in shared_memory_files(f"{self._process.pid}[0-9][0-9][0-9]"):
            path.unlink(missing_ok=True)


def _outcome(ended: GroupEnded, spec: ProbeSpec, oom_kills: int) -> Outcome:
    job = spec.job
    return classify(ended, job.strategy, rank_count=job.rank_count, oom_kills=oom_kills, log_path=spec.log_path)


def _lacked_host_memory(outcome: Outcome) -> bool:
    return isinstance(outcome, OutOfMemory) and outcome.place is Place.HOST


def shared_memory_files(port: str) -> Iterator[Path]:
    """DeepSpeed's files in /dev/shm of this user's groups on `port` (a glob pattern)."""
    return Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_{os.getuid()}_127.0.0.1_{port}_*")


# On a CPU the rank's heap is the device. One arena, and every block of a megabyte or more given back at once: otherwise
# glibc keeps what is broken up, and a training of 24 steps grew 45 MB beyond its probe (13 MB with these).
CPU_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**20),
}


def worker_environment(kind: DeviceKind) -> dict[str, str]:
    """For the agent and the launcher: the device is decided, and the tools beside this Python are found."""
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment["DS_ACCELERATOR"] = kind.value
    environment["PYTHONUNBUFFERED"] = "1"
    if kind is DeviceKind.CPU:
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment.update(CPU_ALLOCATOR)
    return environment
