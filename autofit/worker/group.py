"""One probe's ranks: forked together, watched together, ended together; several probes run side by side."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from autofit.domain.outcome import Phase
from autofit.probing.protocol import (
    Beat,
    GroupEnded,
    Job,
    Message,
    RankEnd,
    RunProbe,
    Survey,
    read_message,
    to_line,
)
from autofit.worker.lines import LineReader, wait_or_interrupt
from autofit.worker.member import Member

_EXIT_GRACE_S = 10.0  # a rank that has left its report has this long to end by itself


class Group:
    """One probe's ranks; the first failure kills all of them at once."""

    def __init__(self, context: ForkServerContext, command: RunProbe, say: Callable[[Message], None]) -> None:
        self._number = command.number
        self._spec = command.spec
        self._say = say
        self._context = context
        self._began_at_s = time.monotonic()
        self._members: list[Member] = []
        self._started_s = 0.0
        self._silent: Member | None = None

    def start(self) -> None:
        for rank in range(self._spec.job.process_count):
            self._members.append(self._fork(rank))

    @property
    def running(self) -> list[Member]:
        return [member for member in self._members if member.is_running]

    @property
    def is_over(self) -> bool:
        has_failed = any(member.has_failed for member in self._members)
        return has_failed or self._silent is not None or not self.running

    def hear(self, ready: list[object]) -> None:
        """Takes what its ranks said, those in `ready`, and notes who has been silent beyond the deadline."""
        running = self.running
        for member in running:
            if member.beats in ready:
                self._hear(member)
        silent = min(running, key=lambda member: member.deadline_s, default=None)
        if silent is not None and time.monotonic() >= silent.deadline_s:
            self._silent = silent

    def kill(self) -> None:
        for member in self._members:
            member.kill()
        for member in self._members:
            member.process.join(_EXIT_GRACE_S)

    def end(self) -> None:
        """Ends what still runs, and says how all of it ended."""
        self.kill()
        ends = tuple(self._end(member) for member in self._members)
        self._members.clear()
        ended = GroupEnded(self._number, ends, self._started_s, self._elapsed_s())
        if self._silent is not None:
            ended = replace(ended, silent_rank=self._silent.rank, silent_s=self._silent.beat_timeout_s)
        self._say(ended)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_at_s

    def _fork(self, rank: int) -> Member:
        receiving, sending = self._context.Pipe(duplex=False)
        report_path = Path(self._spec.scratch_path, f"rank{rank}.json")
        process = self._context.Process(
            target=_rank_main,
            args=(to_line(RunProbe(self._number, self._spec)), rank, str(report_path), sending),
            daemon=True,
        )
        process.start()
        sending.close()
        return Member(rank, process, receiving, report_path, self._spec.beat_timeout_s, heard_at_s=time.monotonic())

    def _hear(self, member: Member) -> None:
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

    def _end(self, member: Member) -> RankEnd:
        while not member.beats.closed and member.beats.poll():
            self._hear(member)  # what it said before it ended
        exit_code, report = member.process.exitcode, member.report()
        member.process.close()
        return RankEnd(member.rank, exit_code, member.was_killed, member.phase, report)


def run_together(groups: Sequence[Group], commands: LineReader) -> None:
    """Runs groups side by side until each has said how it ended; what ends one leaves the others be.

    Raises Interrupted, with nothing left running, when `commands` end.
    """
    going = list(groups)
    try:
        for group in groups:
            group.start()
        while going:
            running = [member for group in going for member in group.running]  # who ends from here on is seen below
            over = [group for group in going if group.is_over]
            for group in over:
                going.remove(group)
                group.end()
            if not over:
                _watch(going, running, commands)
    finally:
        for group in groups:
            group.kill()


def _watch(going: list[Group], running: list[Member], commands: LineReader) -> None:
    """Waits for the next thing to happen, or for the deadline of the rank that has been silent longest."""
    wait_s = min(member.deadline_s for member in running) - time.monotonic()
    sources: list[object] = [member.process.sentinel for member in running]
    sources += [member.beats for member in running if not member.beats.closed]
    ready = wait_or_interrupt(sources, commands, max(0.0, wait_s))
    for group in going:
        group.hear(ready)


def _rank_main(line: bytes, rank: int, report_path: str, beats: Connection) -> None:
    """The entry of a forked rank; never returns."""
    from autofit.probing.protocol import read_probe
    from autofit.worker import probe
    from autofit.worker.rank import die_with_parent, run_guarded

    os.setsid()
    die_with_parent()
    forget_fork_server()
    command = read_probe(line)
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
        LOCAL_SIZE=str(job.process_count),  # DeepSpeed waits in shared memory for as many
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
