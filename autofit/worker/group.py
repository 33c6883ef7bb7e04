"""One probe's ranks: forked together, watched together, ended together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

from autofit.probing.host_processes import kill_sessions
from autofit.probing.lost_locks import taking_locks_of
from autofit.probing.protocol import (
    Beat,
    BuildWait,
    GroupEnded,
    Message,
    ProbeSpec,
    RankEnd,
    RunProbe,
    ScriptSeen,
    ScriptSpec,
    read_message,
    to_line,
)
from autofit.worker import forked
from autofit.worker.forking import fork
from autofit.worker.member import Member
from autofit.worker.nameless_file import NamelessFile
from autofit.worker.script_room import ScriptRoom

_EXIT_GRACE_S = 10.0  # a rank that has left its report has this long to end by itself
_SIGN_S = 10.0  # who asked for the probe hears this often at least that its ranks live


class Group:
    """One probe's ranks, of a script's those of this node; the first failure kills all of them at once."""

    def __init__(self, context: ForkServerContext, command: RunProbe, say: Callable[[Message], None]) -> None:
        self.number = command.number
        self._command = command
        self._spec = command.spec
        self._room: ScriptRoom | None = None
        self._store: NamelessFile | None = None
        if isinstance(command.spec, ScriptSpec):
            share = command.spec.shares[command.node_index]
            self._ranks = range(share.first_rank, share.first_rank + share.rank_count)
            self._room = ScriptRoom(command.spec, share)
        else:
            self._ranks = range(command.spec.job.process_count)
        self._say = say
        self._context = context
        self._began_at_s = self._said_at_s = time.monotonic()
        self._members: list[Member] = []
        self._started_s = 0.0
        self._silent: Member | None = None
        self._is_given_up = self._is_late = False
        self._time_limit_s = command.spec.time_limit_s if isinstance(command.spec, ProbeSpec) else None

    def start(self) -> None:
        if self._room is not None:
            self._room.lay_out()
        else:
            self._store = NamelessFile("autofit-store")
            self._command = replace(self._command, store_path=self._store.path)
        for rank in self._ranks:
            self._members.append(self._fork(rank))

    def give_up(self) -> None:
        """It is over, whatever its ranks do: another node's part of it has failed."""
        self._is_given_up = True

    @property
    def running(self) -> list[Member]:
        return [member for member in self._members if member.is_running]

    @property
    def deadline_s(self) -> float:
        """When all of it will have taken too long (time.monotonic)."""
        return math.inf if self._time_limit_s is None else self._began_at_s + self._time_limit_s

    @property
    def is_over(self) -> bool:
        has_failed = any(member.has_failed for member in self._members)
        return has_failed or self._is_given_up or self._silent is not None or self._is_late or not self.running

    def hear(self, ready: list[object]) -> None:
        """Takes what its ranks said, those in `ready`, and notes who has been silent, or goes on, for too long."""
        running = self.running
        for member in running:
            if member.beats in ready:
                self._hear(member)
        silent = min(running, key=lambda member: member.deadline_s, default=None)
        if silent is not None and time.monotonic() >= silent.deadline_s:
            self._silent = silent
        self._is_late = time.monotonic() >= self.deadline_s

    def kill(self) -> None:
        """With what they were building: its locks go with them."""
        running = [member.process.pid for member in self.running if member.process.pid is not None]
        with taking_locks_of(*running):
            for member in self._members:
                member.kill()
            if running:
                kill_sessions(running)
            for member in self._members:
                member.process.join(_EXIT_GRACE_S)

    def end(self) -> None:
        """Ends what still runs, and says how all of it ended."""
        self.kill()
        ends = tuple(self._end(member) for member in self._members)
        self._members.clear()
        self.clear()
        ended = GroupEnded(self.number, ends, self._started_s, self._elapsed_s())
        if self._silent is not None:
            ended = replace(ended, silent_rank=self._silent.rank, silent_s=self._silent.beat_timeout_s)
        if self._is_late:
            ended = replace(ended, time_limit_s=self._time_limit_s)
        self._say(ended)

    def clear(self) -> None:
        """What a script's probe leaves on this node; another probe's folder is its asker's."""
        if self._room is not None:
            self._room.clear()
        if self._store is not None:
            self._store.close()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_at_s

    def _fork(self, rank: int) -> Member:
        folder = Path(self._spec.scratch_path) if self._room is None else self._room.reports
        report_path = folder / f"rank{rank}.json"
        line = to_line(self._command)
        process, beats = fork(self._context, forked.rank_main, line, rank, str(report_path))
        return Member(rank, process, beats, report_path, self._spec.beat_timeout_s, heard_at_s=time.monotonic())

    def _hear(self, member: Member) -> None:
        try:
            said = read_message(member.beats.recv_bytes())
        except (EOFError, OSError):  # the end, or a message that its sender was killed in
            member.beats.close()
            return
        member.heard_at_s = time.monotonic()
        if isinstance(said, ScriptSeen):
            self._say(said)
        elif isinstance(said, BuildWait):
            self._pass_on(said, is_news=member.rank == self._ranks[0])  # the others may wait for one of their own
        else:
            assert isinstance(said, Beat)
            self._note(member, said)

    def _note(self, member: Member, beat: Beat) -> None:
        if not member.has_beaten:
            member.has_beaten = True
            self._started_s = self._elapsed_s()
        self._pass_on(beat, is_news=beat.phase is not member.phase and beat.rank == 0)
        member.phase = beat.phase

    def _pass_on(self, said: Beat | BuildWait, *, is_news: bool) -> None:
        """Where it is news, or the only sign of life for a while."""
        if is_news or time.monotonic() >= self._said_at_s + _SIGN_S:
            self._said_at_s = time.monotonic()
            self._say(said)

    def _end(self, member: Member) -> RankEnd:
        while not member.beats.closed and member.beats.poll():
            self._hear(member)  # what it said before it ended
        exit_code, report = member.process.exitcode, member.report()
        member.process.close()
        return RankEnd(member.rank, exit_code, member.was_killed, member.phase, report)
