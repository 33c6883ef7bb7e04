"""One probe's ranks: forked together, watched together, ended together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from autofit.domain.outcome import Phase
from autofit.probing.protocol import (
    Beat,
    GroupEnded,
    Job,
    Message,
    RankEnd,
    RankReport,
    RunProbe,
    Survey,
    read_message,
    read_report,
    to_line,
)
from autofit.worker.lines import LineReader, wait_or_interrupt

_EXIT_GRACE_S = 10.0  # a rank that has left its report has this long to end by itself


@dataclass
class _Member:
    rank: int
    process: BaseProcess
    beats: Connection
    report_path: Path
    phase: Phase = Phase.START
    heard_at_s: float = 0.0
    has_beaten: bool = False
    was_killed: bool = False

    @property
    def is_running(self) -> bool:
        return self.process.exitcode is None

    @property
    def has_failed(self) -> bool:
        return self.process.exitcode not in (None, 0)

    def kill(self) -> None:
        """Ends the rank and whatever it started: it leads a session of its own."""
        if not self.is_running:
            return
        self.was_killed = True
        try:
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()  # it has not become a leader yet

    def report(self) -> RankReport | None:
        return read_report(self.report_path.read_bytes()) if self.report_path.exists() else None


class Group:
    """Runs one probe to its end; the first failure kills all of it at once."""

    def __init__(
        self, context: ForkServerContext, command: RunProbe, say: Callable[[Message], None], commands: LineReader
    ) -> None:
        self._number = command.number
        self._spec = command.spec
        self._say = say
        self._commands = commands
        self._context = context
        self._began_at_s = time.monotonic()
        self._members: list[_Member] = []
        self._started_s = 0.0
        self._silent: tuple[int, float] | None = None

    def run(self) -> GroupEnded:
        try:
            self._members = [self._fork(rank) for rank in range(self._spec.job.rank_count)]
            while running := [member for member in self._members if member.is_running]:
                if any(member.has_failed for member in self._members):
                    break
                self._watch(running)
        finally:
            self._kill_all()
        ends = tuple(self._end(member) for member in self._members)
        rank, silent_s = self._silent or (None, 0.0)
        return GroupEnded(self._number, ends, self._started_s, self._elapsed_s(), rank, silent_s)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_at_s

    def _fork(self, rank: int) -> _Member:
        receiving, sending = self._context.Pipe(duplex=False)
        report_path = Path(self._spec.scratch_path, f"rank{rank}.json")
        process = self._context.Process(
            target=_rank_main,
            args=(to_line(RunProbe(self._number, self._spec)), rank, str(report_path), sending),
            daemon=True,
        )
        process.start()
        sending.close()
        return _Member(rank, process, receiving, report_path, heard_at_s=time.monotonic())

    def _watch(self, running: list[_Member]) -> None:
        """Waits for the next thing to happen, or for the deadline of the rank that has been silent longest."""
        silent = min(running, key=lambda member: member.heard_at_s)
        deadline_s = silent.heard_at_s + self._spec.beat_timeout_s - time.monotonic()
        sources: list[object] = [member.process.sentinel for member in running]
        sources += [member.beats for member in running if not member.beats.closed]
        ready = wait_or_interrupt(sources, self._commands, max(0.0, deadline_s))
        for member in running:
            if member.beats in ready:
                self._hear(member)
        if not ready:
            self._silent = (silent.rank, self._spec.beat_timeout_s)
            self._kill_all()

    def _hear(self, member: _Member) -> None:
        try:
            beat = read_message(member.beats.recv_bytes())
        except (EOFError, OSError):  # the end, or a message that its sender was killed in
            member.beats.close()
            return
        assert isinstance(beat, Beat)
        member.heard_at_s = time.monotonic()
        if not member.has_beaten:
            member.has_beaten = True
            self._started_s = self._elapsed_s()
        if beat.phase is not member.phase and beat.rank == 0:
            self._say(beat)
        member.phase = beat.phase

    def _kill_all(self) -> None:
        for member in self._members:
            member.kill()
        for member in self._members:
            member.process.join(_EXIT_GRACE_S)

    def _end(self, member: _Member) -> RankEnd:
        while not member.beats.closed and member.beats.poll():
            self._hear(member)  # what it said before it ended
        exit_code, report = member.process.exitcode, member.report()
        member.process.close()
        return RankEnd(member.rank, exit_code, member.was_killed, member.phase, report)


def _rank_main(line: bytes, rank: int, report_path: str, beats: Connection) -> None:
    """The entry of a forked rank; never returns."""
    from autofit.probing.protocol import read_command
    from autofit.worker import probe
    from autofit.worker.rank import die_with_parent, run_guarded

    os.setsid()
    die_with_parent()
    forget_fork_server()
    command = read_command(line)
    assert isinstance(command, RunProbe)
    spec = command.spec
    set_environment(spec.job, rank, command.number)
    redirect_output(spec.log_path)

    def send(phase: Phase, step: int) -> None:
        beats.send_bytes(to_line(Beat(command.number, rank, phase, step)))

    send(Phase.START, 0)
    code = run_guarded(spec.job, Path(report_path), send, lambda life: probe.run(spec, life))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # no destructors: engines and process groups take seconds to die politely


def set_environment(job: Job, rank: int, name: int) -> None:
    """As DeepSpeed's launcher would. MASTER_PORT is only a name, of files in /dev/shm: nobody listens on it."""
    from autofit.worker.rank import set_threads

    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(job.rank_count),
        LOCAL_SIZE=str(job.rank_count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(name),
    )
    if job.devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(job.devices)
    else:
        set_threads(job.rank_count)


def forget_fork_server() -> None:
    """Locks made from here on (tqdm makes one) take their names out of /dev/shm at once, whatever ends this process."""
    multiprocessing.set_start_method("fork", force=True)


def redirect_output(log_path: str) -> None:
    fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def survey_in_child(context: ForkServerContext, command: Survey, commands: LineReader) -> Message:
    """The survey in a process of its own, so that the agent stays clean of what it loads."""
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_survey_main, args=(to_line(command), sending), daemon=True)
    process.start()
    sending.close()
    try:
        wait_or_interrupt([receiving], commands)
        return read_message(receiving.recv_bytes())
    except EOFError:
        raise RuntimeError(f"the survey of the data ended without an answer; see {command.log_path}") from None
    finally:
        if process.is_alive():
            process.kill()
        process.join()


def _survey_main(line: bytes, answer: Connection) -> None:
    from autofit.probing.protocol import read_command
    from autofit.worker import survey
    from autofit.worker.rank import die_with_parent

    die_with_parent()
    forget_fork_server()
    command = read_command(line)
    assert isinstance(command, Survey)
    redirect_output(command.log_path)
    answer.send_bytes(to_line(survey.run(command)))
