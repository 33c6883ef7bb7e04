"""One probe's ranks: forked together, watched together, ended together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

from autofit.domain.ending import PLACES
from autofit.probing.protocol import (
    GroupEnded,
    Heartbeat,
    Message,
    ProbeSpec,
    RankEnd,
    RunProbe,
    ScriptSeen,
    ScriptSpec,
    read_message,
    to_line,
)
from autofit.process.build_locks.build_wait import BuildWait
from autofit.process.build_locks.stale_locks import taking_locks_of
from autofit.process.files import NamelessFile
from autofit.process.host_processes import kill_sessions
from autofit.process.stacks import Asked, write_stacks
from autofit.worker.agent import forked_process
from autofit.worker.agent.fork_server import death_signal, fork
from autofit.worker.agent.rank_process import RankProcess
from autofit.worker.agent.scratch_folder import ScratchFolder

_EXIT_GRACE_S = 10.0  # a rank that has left its report has this long to end by itself
_SIGN_S = 10.0  # who asked for the probe hears this often at least that its ranks live


class WorkerGroup:
    """One probe's ranks, of a script's those of this node; the first failure kills all of them at once."""

    def __init__(self, context: ForkServerContext, command: RunProbe, send: Callable[[Message], None]) -> None:
        self.number = command.number
        self._command = command
        self._spec = command.spec
        self._scratch_folder: ScratchFolder | None = None
        self._store: NamelessFile | None = None
        if isinstance(command.spec, ScriptSpec):
            share = command.spec.shares[command.node_index]
            self._ranks = range(share.first_rank, share.first_rank + share.rank_count)
            self._scratch_folder = ScratchFolder(command.spec, share)
        else:
            self._ranks = range(command.spec.job.process_count)
        self._send = send
        self._context = context
        self._began_at_s = self._said_at_s = time.monotonic()
        self._rank_processes: list[RankProcess] = []
        self._started_s = 0.0
        self._silent: RankProcess | None = None
        self._is_given_up = self._is_late = False
        self._time_limit_s = command.spec.time_limit_s if isinstance(command.spec, ProbeSpec) else None

    def start(self) -> None:
        if self._scratch_folder is not None:
            self._scratch_folder.lay_out()
        else:
            self._store = NamelessFile("autofit-store")
            self._command = replace(self._command, store_path=self._store.path)
        for rank in self._ranks:
            self._rank_processes.append(self._fork(rank))

    def give_up(self) -> None:
        """Gives the probe up, whatever its ranks do: another node's part of it has failed."""
        self._is_given_up = True

    @property
    def running(self) -> list[RankProcess]:
        return [rank_process for rank_process in self._rank_processes if rank_process.is_running]

    @property
    def deadline_s(self) -> float:
        """The time at which all of it will have taken too long (time.monotonic)."""
        return math.inf if self._time_limit_s is None else self._began_at_s + self._time_limit_s

    @property
    def is_over(self) -> bool:
        has_failed = any(rank_process.has_failed for rank_process in self._rank_processes)
        return has_failed or self._is_given_up or self._silent is not None or self._is_late or not self.running

    def receive(self, ready: list[object]) -> None:
        """Takes what its ranks said, those in `ready`, and notes who has been silent, or goes on, for too long."""
        running = self.running
        for rank_process in running:
            if rank_process.heartbeats in ready:
                self._receive(rank_process)
        silent = min(running, key=lambda rank_process: rank_process.deadline_s, default=None)
        if silent is not None and time.monotonic() >= silent.deadline_s:
            self._silent = silent
        self._is_late = time.monotonic() >= self.deadline_s

    def kill(self) -> None:
        """Kills the ranks with what they were building: its locks go with them."""
        running = [rank_process.process.pid for rank_process in self.running if rank_process.process.pid is not None]
        with taking_locks_of(*running):
            for rank_process in self._rank_processes:
                rank_process.kill()
            if running:
                kill_sessions(running)
            for rank_process in self._rank_processes:
                rank_process.process.join(_EXIT_GRACE_S)

    def end(self) -> None:
        """Ends what still runs, and says how all of it ended; the stacks of ranks that took too long come into the
        log first."""
        if self._silent is not None or self._is_late:
            write_stacks([self._asked(one) for one in self.running if one.has_started], Path(self._spec.log_path))
        self.kill()
        ends = tuple(self._end(rank_process) for rank_process in self._rank_processes)
        self._rank_processes.clear()
        self.clear()
        ended = GroupEnded(self.number, ends, self._started_s, self._elapsed_s())
        if self._silent is not None:
            ended = replace(ended, silent_rank=self._silent.rank, silent_s=self._silent.patience_s)
        if self._is_late:
            ended = replace(ended, time_limit_s=self._time_limit_s)
        self._send(ended)

    def clear(self) -> None:
        """Removes what a script's probe leaves on this node; another probe's folder is its asker's."""
        if self._scratch_folder is not None:
            self._scratch_folder.clear()
        if self._store is not None:
            self._store.close()

    @staticmethod
    def _asked(rank_process: RankProcess) -> Asked:
        title = f"rank {rank_process.rank}, in {PLACES[rank_process.phase]}"
        return Asked(rank_process.process.pid or 0, title)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_at_s

    def _fork(self, rank: int) -> RankProcess:
        folder = Path(self._spec.scratch_path) if self._scratch_folder is None else self._scratch_folder.reports
        report_path = folder / f"rank{rank}.json"
        line = to_line(self._command)
        process, heartbeats = fork(self._context, forked_process.rank_main, line, rank, str(report_path))
        spec = self._spec
        return RankProcess(
            rank, process, heartbeats, report_path, spec.heartbeat_timeout_s,
            heard_at_s=time.monotonic(),
            step_silence_s=spec.step_silence_s if isinstance(spec, ProbeSpec) else None,
        )  # fmt: skip

    def _receive(self, rank_process: RankProcess) -> None:
        try:
            said = read_message(rank_process.heartbeats.recv_bytes())
        except (EOFError, OSError):  # the end, or a message that its sender was killed in
            rank_process.heartbeats.close()
            return
        rank_process.heard_at_s = time.monotonic()
        if isinstance(said, ScriptSeen):
            self._send(said)
        elif isinstance(said, BuildWait):
            self._pass_on(said, is_news=rank_process.rank == self._ranks[0])  # the others may wait for one of their own
        else:
            assert isinstance(said, Heartbeat)
            self._note(rank_process, said)

    def _note(self, rank_process: RankProcess, heartbeat: Heartbeat) -> None:
        if not rank_process.has_started:
            rank_process.has_started = True
            self._started_s = self._elapsed_s()
        self._pass_on(heartbeat, is_news=heartbeat.phase is not rank_process.phase and heartbeat.rank == 0)
        rank_process.phase = heartbeat.phase

    def _pass_on(self, said: Heartbeat | BuildWait, *, is_news: bool) -> None:
        """Passes on what is news, or the only sign of life for a while."""
        if is_news or time.monotonic() >= self._said_at_s + _SIGN_S:
            self._said_at_s = time.monotonic()
            self._send(said)

    def _end(self, rank_process: RankProcess) -> RankEnd:
        while not rank_process.heartbeats.closed and rank_process.heartbeats.poll():
            self._receive(rank_process)  # what it said before it ended
        number, report = death_signal(rank_process.process), rank_process.report()
        exit_code = rank_process.process.exitcode if number is None else -number
        rank_process.process.close()
        return RankEnd(rank_process.rank, exit_code, rank_process.was_killed, rank_process.phase, report)
