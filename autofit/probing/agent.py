"""The handle of the local agent: starts it, asks it, and leaves nothing of it behind."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autofit.domain.ending import death_text
from autofit.domain.errors import AutofitError, InternalError, UsageError
from autofit.domain.event import Tell
from autofit.domain.hardware import DeviceKind
from autofit.domain.model import ModelFacts
from autofit.domain.outcome import Outcome, OutOfMemory, Place
from autofit.domain.request import Request
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.domain.trace import MicroStep
from autofit.domain.units import format_seconds
from autofit.domain.workload import DataProfile
from autofit.planning.script.script_setting import own_strategy
from autofit.probing.agent_program import OWN_TRAINING, USUAL_LIMITS, Limits, Program
from autofit.probing.classification import classify
from autofit.probing.prober import OnHeartbeat, OnRehearsalHeartbeat, OnTraceProgress
from autofit.probing.protocol import (
    AgentFailed,
    CheckInputs,
    Command,
    DescribeModel,
    Foreseen,
    GroupEnded,
    Heartbeat,
    InputsChecked,
    Message,
    ModelDescribed,
    ProbeSpec,
    Ready,
    Refused,
    RowsMade,
    RunProbe,
    RunProbes,
    ScriptSeen,
    ScriptSpec,
    Spec,
    Survey,
    Surveyed,
    SurveyNews,
    SurveyRefused,
    Traced,
    TraceModel,
    TraceProgress,
    Undescribed,
    read_message,
)
from autofit.probing.survey_course import OnRowsMade, SurveyCourse
from autofit.process.build_locks.build_wait import BuildWait, WaitTeller
from autofit.process.files import OURS, write_whole
from autofit.process.rendezvous import free_port, is_shared_full, remove_shared_memory
from autofit.process.signals import ShieldedExit

_ENDING_S = 10.0  # its messages have ended, and so will it
_AGAIN = "What was found so far is kept: the same command goes on with it."
_MEANWHILE = (BuildWait, RowsMade, Foreseen, Surveyed, SurveyRefused)
"""What an agent says whatever it was asked."""


@dataclass
class _Run:
    """What came of one probe so far."""

    on_heartbeat: OnHeartbeat
    ended: GroupEnded | None = None
    facts: ScriptFacts | None = None
    oom_kills: int = 0
    is_shared_full: bool = False


class Agent(ShieldedExit):
    """One agent process and the fork server under it, from `with` to the end of `with`."""

    def __init__(
        self,
        *,
        kind: DeviceKind,
        log_path: Path,
        oom_kill_count: Callable[[], int | None] = lambda: None,
        tell: Tell = lambda text: None,
        program: Program = OWN_TRAINING,
        limits: Limits = USUAL_LIMITS,
    ) -> None:
        """Takes what starts the process; `tell` hears for whom it has to wait."""
        self._kind = kind
        self._program = program
        self._on_wait = WaitTeller(tell)
        self._limits = limits
        self._log_path = log_path
        self._oom_kill_count = oom_kill_count
        self._probe_count = 0
        self._ready: Ready | None = None
        self._survey, self._survey_log = SurveyCourse(lambda made: None), log_path
        self._is_given_up = False

    def __enter__(self) -> Agent:
        self._kills_at_start = self._oom_kill_count() or 0
        with self._log_path.open("ab") as log:
            program = self._program
            self._process = program.start(program.environment(self._kind), log, program.arguments)
        return self

    def _close(self) -> None:
        self._process.close()
        if self._ready is not None and self._ready.temporary_path is not None:
            shutil.rmtree(self._ready.temporary_path, ignore_errors=True)
        self._remove_shared_memory()

    def wait_ready(self) -> Ready:
        """Waits until everything is imported; UsageError when a build that it needs is kept from its start."""
        if self._ready is None:
            message = self._next(self._limits.start_s, "the start of autofit's agent")
            if isinstance(message, Refused):
                raise UsageError(message.message)
            assert isinstance(message, Ready)
            self._ready = message
        return self._ready

    def survey(
        self,
        request: Request,
        *,
        log_path: Path,
        most_processes: int = 1,
        patience_s: float | None = None,
        on_rows: OnRowsMade = lambda made: None,
    ) -> DataProfile:
        """The profile of the request's data; UsageError when something of it must be changed first. After `patience_s`
        what a sample foretells, where there is such."""
        self.wait_ready()
        self._survey, self._survey_log = SurveyCourse(on_rows), log_path
        began_at_s = time.monotonic()
        self._send(Survey(request, str(log_path), most_processes, foresees=patience_s is not None))
        while self._survey.profile is None:
            is_late = patience_s is not None and time.monotonic() - began_at_s >= patience_s
            if is_late and self._survey.foreseen is not None:
                return self._survey.foreseen
            self._hear_survey()
        return self._survey.profile

    def surveyed(self, *, is_awaited: bool) -> DataProfile | None:
        """The profile of a survey that went on; None while it does, unless it `is_awaited`."""
        while self._survey.profile is None and (is_awaited or self._process.has_message):
            self._hear_survey()
        return self._survey.profile

    def check_inputs(self, request: Request, *, log_path: Path) -> None:
        """Checks the first rows of the data and the extra arguments; UsageError for what would end a start."""
        self.wait_ready()
        self._send(CheckInputs(request, str(log_path)))
        message = self._next(self._limits.description_s, "the check of data and arguments", log_path)
        if isinstance(message, Refused):
            raise UsageError(message.message)
        assert isinstance(message, InputsChecked)

    def describe(self, request: Request, *, log_path: Path) -> ModelFacts:
        """What the class of the request's model says of it; UsageError when it is none that can be trained, another
        AutofitError when it cannot be asked."""
        self.wait_ready()
        self._send(DescribeModel(request, str(log_path)))
        message = self._next(self._limits.description_s, "the description of the model", log_path)
        if isinstance(message, Refused):
            raise UsageError(message.message)
        if isinstance(message, Undescribed):
            raise AutofitError(message.why)
        assert isinstance(message, ModelDescribed)
        return message.facts

    def trace(
        self,
        request: Request,
        micro_steps: Sequence[MicroStep],
        *,
        log_path: Path,
        on_progress: OnTraceProgress = lambda progress: None,
    ) -> Traced:
        """The traces of the request's model, and why some have none; UsageError when there is no such model."""
        if not micro_steps:
            return Traced(())
        self.wait_ready()
        self._send(TraceModel(request, tuple(micro_steps), str(log_path)))
        what = "the traces of the model"
        while isinstance(message := self._next(self._limits.traces_s, what, log_path), TraceProgress):
            on_progress(message)
        if isinstance(message, Refused):
            raise UsageError(message.message)
        assert isinstance(message, Traced)
        return message

    @property
    def master_address(self) -> str:
        """The address at which the ranks of a script's probe meet."""
        return "127.0.0.1"

    def free_port(self) -> int:
        """A port for the ranks of a script's probe to meet at."""
        return free_port(self.master_address)

    def put_file(self, path: Path, text: str) -> None:
        """Writes a file onto this node, the only one."""
        write_whole(path, text, mode=OURS, is_durable=True)

    def probe(self, spec: Spec, on_heartbeat: OnHeartbeat) -> Outcome:
        """Runs one probe to its end, whatever that is; a script's has a strategy. The scratch folder is gone then."""
        return self._outcomes((spec,), (on_heartbeat,))[0]

    def inspect(self, spec: ScriptSpec, on_heartbeat: OnHeartbeat) -> tuple[Outcome, ScriptFacts | None]:
        """Probes the script, without a strategy as it is; what it showed of itself is None where it came to no
        `deepspeed.initialize`."""
        (run,) = self._run((spec,), (on_heartbeat,))
        own = None if run.facts is None else own_strategy(run.facts)
        return _outcome(run, spec, spec.job.strategy or own), run.facts

    def rehearse(self, specs: Sequence[ProbeSpec], on_heartbeat: OnRehearsalHeartbeat) -> tuple[Outcome, ...]:
        """Runs rehearsals side by side, each to its own end; their outcomes in the order of `specs`.

        Each spec brings its own device, scratch and log. One for which the host's memory ran out is repeated alone: it
        may have been its neighbours' doing.
        """
        assert all(spec.job.is_rehearsal for spec in specs)
        on_beats = [partial(on_heartbeat, spec.job.strategy) for spec in specs]
        outcomes = self._outcomes(specs, on_beats)
        if len(specs) == 1:
            return outcomes
        return tuple(
            self._outcomes((spec,), (heard,))[0] if _lacked_host_memory(outcome) else outcome
            for spec, heard, outcome in zip(specs, on_beats, outcomes, strict=True)
        )

    def _outcomes(self, specs: Sequence[Spec], on_beats: Sequence[OnHeartbeat]) -> tuple[Outcome, ...]:
        runs = self._run(specs, on_beats)
        return tuple(_outcome(run, spec, spec.job.strategy) for run, spec in zip(runs, specs, strict=True))

    def _run(self, specs: Sequence[Spec], on_beats: Sequence[OnHeartbeat]) -> tuple[_Run, ...]:
        self.wait_ready()
        probes = tuple(self._numbered(spec) for spec in specs)
        kills_before = self._oom_kill_count() or 0
        for spec in specs:
            Path(spec.scratch_path).mkdir(parents=True)
        try:
            self._send(RunProbes(probes))
            runs = {probe.number: _Run(on_heartbeat) for probe, on_heartbeat in zip(probes, on_beats, strict=True)}
            self._until_ended(runs, max(spec.heartbeat_timeout_s for spec in specs) + self._limits.answer_s)
        finally:
            for spec in specs:
                shutil.rmtree(spec.scratch_path, ignore_errors=True)
            self._remove_shared_memory(specs)
        kills = (self._oom_kill_count() or 0) - kills_before
        for run in runs.values():
            run.oom_kills = kills
        return tuple(runs.values())

    def _numbered(self, spec: Spec) -> RunProbe:
        self._probe_count += 1
        return RunProbe(self._process.pid * 1000 + self._probe_count, spec)

    def _until_ended(self, runs: dict[int, _Run], silence_s: float) -> None:
        """The messages of a probe until it has ended. The agent ends a rank that is silent: more than that is its own
        silence."""
        while any(run.ended is None for run in runs.values()):
            message = self._next(silence_s, "a probe")
            assert isinstance(message, (Heartbeat, ScriptSeen, GroupEnded))
            run = runs[message.number]
            if isinstance(message, GroupEnded):
                run.ended, run.is_shared_full = message, is_shared_full()
            elif isinstance(message, ScriptSeen):
                run.facts = message.facts
            else:
                run.on_heartbeat(message.phase)

    def _send(self, command: Command) -> None:
        try:
            self._process.send(command)
        except BrokenPipeError:
            raise self._lost() from None

    def _next(self, within_s: float, what: str, log_path: Path | None = None) -> Message:
        """The next message that is no sign of life alone; an AutofitError when there is none in time.

        `what` takes so long, and `log_path` is its own log.
        """
        while isinstance(message := self._receive(within_s, what, log_path), _MEANWHILE):
            self._hear(message)
        return message

    def _hear_survey(self) -> None:
        message = self._receive(self._limits.survey_s, "the survey of the data", self._survey_log)
        assert isinstance(message, _MEANWHILE)
        self._hear(message)

    def _hear(self, message: BuildWait | SurveyNews) -> None:
        if isinstance(message, BuildWait):
            self._on_wait(message)
        else:
            self._survey.hear(message)

    def _receive(self, within_s: float, what: str, log_path: Path | None) -> Message:
        try:
            line = self._process.next_line(within_s)
        except TimeoutError:
            self._is_given_up = True
            self._process.kill()  # what it would still say is not awaited any more
            raise AutofitError(
                f"{what} gave no sign of life for {format_seconds(within_s)} and was ended. See in "
                f"{log_path or self._log_path} what it waited for: a file system or a network that hangs, most often."
            ) from None
        if line is None:
            raise self._lost()
        message = read_message(line)
        if isinstance(message, AgentFailed):
            raise _failed(message, self._log_path)
        return message

    def _lost(self) -> AutofitError:
        """What is said of an agent that has ended while it was needed."""
        exit_code = self._process.exit_code if self._process.has_ended(_ENDING_S) else None
        if exit_code is None or exit_code >= 0 or self._is_given_up:
            return InternalError(f"the agent has ended; see {self._log_path}")
        is_kernel = -exit_code == signal.SIGKILL and (self._oom_kill_count() or 0) > self._kills_at_start
        how = "was killed by the kernel: the host's memory ran out" if is_kernel else death_text(-exit_code)
        return AutofitError(f"autofit's agent {how}; its log is {self._log_path}. {_AGAIN}")

    def _remove_shared_memory(self, specs: Sequence[Spec] = ()) -> None:
        """Removes DeepSpeed's files of ranks that died before they could take them away."""
        ports = [f"{self._process.pid}[0-9][0-9][0-9]"]
        ports += [str(share.master_port) for spec in specs if isinstance(spec, ScriptSpec) for share in spec.shares]
        for port in ports:
            remove_shared_memory(port)


def _outcome(run: _Run, spec: Spec, strategy: Strategy | None) -> Outcome:
    assert run.ended is not None
    return classify(
        run.ended,
        strategy,
        rank_count=spec.job.rank_count,
        oom_kills=run.oom_kills,
        log_path=spec.log_path,
        is_shared_full=run.is_shared_full,
    )


def _lacked_host_memory(outcome: Outcome) -> bool:
    return isinstance(outcome, OutOfMemory) and outcome.place is Place.HOST


def _failed(message: AgentFailed, log_path: Path) -> AutofitError:
    if message.is_bug:
        return InternalError(f"the agent failed: {message.why}; see {log_path}")
    return AutofitError(f"{message.why}. {_AGAIN}")
