"""A probe's ranks watched: real processes, but what they do is a line of Python instead of a training."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from torch.utils.file_baton import FileBaton

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase, Place
from autofit.domain.script import RuntimePatches, Script, ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.domain.workload import BatchShape
from autofit.probing.protocol import (
    AgentFailed,
    DescribeModel,
    EndProbe,
    FailureKind,
    GroupEnded,
    Heartbeat,
    Job,
    Message,
    ProbeSpec,
    RankFailed,
    RankReport,
    RankTrained,
    Refused,
    RowsMade,
    RunProbe,
    ScriptJob,
    ScriptSeen,
    ScriptSpec,
    Share,
    Survey,
    SurveyRefused,
    read_probe,
    to_line,
)
from autofit.process.build_locks.build_wait import BuildWait
from autofit.process.stacks import answer_with_stacks
from autofit.worker.agent import answering_process, forked_process, survey_process, worker_group
from autofit.worker.agent.answering_process import answer_in_child
from autofit.worker.agent.group_watch import run_together
from autofit.worker.agent.line_reader import CommandsClosed, LineReader
from autofit.worker.agent.survey_process import SurveyProcess
from autofit.worker.agent.worker_group import WorkerGroup
from tests.build_process import building
from tests.builders import make_facts, make_request, make_rung
from tests.waiting import is_alive, wait_until

STRATEGY = Strategy(
    make_rung(1),
    1,
    4,
)
REPORT = RankTrained(10, 10, 8, 2.5, 1.5, 100.0)  # of whatever kind: the agent only passes it on
FAILED = RankFailed(FailureKind.OUT_OF_MEMORY, Phase.BACKWARD, Place.DEVICE, "full", 1.0)
NUMBER = 7
SURVEY = to_line(Survey(make_request(), "the.log"))


FORK = multiprocessing.get_context("fork")


class Forked(FORK.Process):  # type: ignore[name-defined, misc]
    """Forked from here, which needs no pickling; as under the fork server, what has a ready sentinel has an exit code.

    By itself the kernel closes a process's files, its sentinel among them, a moment before it has ended.
    """

    @property
    def exitcode(self) -> int | None:
        if wait([self.sentinel], 0):
            self.join()
        code: int | None = super().exitcode
        return code


CONTEXT = SimpleNamespace(Pipe=FORK.Pipe, Process=Forked)


class FakeRank:
    """What a rank of these tests can do."""

    def __init__(
        self, index: int, report_path: Path, heartbeats: Connection, number: int = NUMBER, store_path: str = ""
    ) -> None:
        self.index = index
        self.store_path = store_path
        self.number = number
        self._report_path = report_path
        self._heartbeats = heartbeats

    def beat(self, *phases: Phase) -> None:
        for phase in phases:
            self._heartbeats.send_bytes(to_line(Heartbeat(self.number, self.index, phase, 0)))

    def end(self, report: RankReport | None, exit_code: int) -> None:
        if report is not None:
            self._report_path.write_bytes(to_line(report))
        os._exit(exit_code)

    def build(self, folder: Path) -> None:
        """As torch does, with torch's own baton; it comes to no end by itself."""
        folder.mkdir(parents=True)
        assert FileBaton(folder / "lock").try_acquire()

    def wait_for_build(self, process_id: int) -> None:
        self._heartbeats.send_bytes(to_line(BuildWait("op", "/builds/op/lock", process_id)))

    def hang(self) -> None:
        time.sleep(600)

    def show(self, facts: ScriptFacts) -> None:
        self._heartbeats.send_bytes(to_line(ScriptSeen(self.number, facts)))

    def start_helper(self) -> None:
        """A process below the rank, as a compiler would be; the folder of the report keeps its number."""
        helper = subprocess.Popen(["sleep", "600"])
        self._report_path.with_name(f"helper{self.index}").write_text(str(helper.pid))


Life = Callable[[FakeRank], None]


class Bench:
    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        self.reading, self.writing = os.pipe()
        self.commands = LineReader(self.reading)
        self.said: list[Message] = []
        self.on_message: Callable[[Message], None] = lambda message: None
        self.later_s = 0.0  # by which the clock of those who watch is ahead
        patch.setattr(worker_group, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + self.later_s))

    def _hear(self, message: Message) -> None:
        self.said.append(message)
        self.on_message(message)

    def pass_time(self, seconds: float) -> None:
        self.later_s += seconds

    def leave(self) -> None:
        """As the one does who asks for probes and goes away."""
        os.close(self.writing)
        self.writing = os.open(os.devnull, os.O_WRONLY)

    def _settle(self) -> None:
        """What comes first in a rank."""
        os.setsid()
        os.close(self.writing)  # a copy, that the fork server's children do not have
        forked_process.redirect_output(str(self.folder / "log"))
        answer_with_stacks()

    def run(
        self,
        *lives: Life,
        heartbeat_timeout_s: float = 60.0,
        time_limit_s: float | None = None,
        step_silence_s: float | None = None,
    ) -> GroupEnded:
        """The group of ranks that live so."""

        def rank_main(line: bytes, rank: int, report_path: str, heartbeats: Connection) -> None:
            self._settle()
            lives[rank](FakeRank(rank, Path(report_path), heartbeats, store_path=read_probe(line).store_path or ""))
            os._exit(0)

        self._patch.setattr(forked_process, "rank_main", rank_main)
        group = self._group(
            NUMBER, len(lives), heartbeat_timeout_s, time_limit_s=time_limit_s, step_silence_s=step_silence_s
        )
        run_together([group], self.commands)
        ended = self.said.pop()
        assert isinstance(ended, GroupEnded)
        return ended

    def run_share(self, *lives: Life, files: tuple[tuple[str, str], ...] = ()) -> GroupEnded:
        """The second node's part of a probe of a script, ranks 4 and on; lives are told the files by their folder."""

        def rank_main(line: bytes, rank: int, report_path: str, heartbeats: Connection) -> None:
            self._settle()
            share = read_probe(line).spec.shares[read_probe(line).node_index]
            lives[rank - share.first_rank](FakeRank(rank, Path(report_path), heartbeats))
            os._exit(0)

        self._patch.setattr(forked_process, "rank_main", rank_main)
        job = ScriptJob(Script("train.py", (), "/"), None, RuntimePatches(), DeviceKind.CPU, 4 + len(lives))
        shares = tuple(Share(node, 2, 4 * node, len(lives), (), "10.0.0.1", 1) for node in range(2))
        spec = ScriptSpec(job, shares, str(self.scratch), str(self.folder / "log"), 60.0, files)
        run_together([WorkerGroup(CONTEXT, RunProbe(NUMBER, spec, node_index=1), self._hear)], self.commands)  # type: ignore[arg-type]
        ended = self.said.pop()
        assert isinstance(ended, GroupEnded)
        return ended

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def rehearse(self, *lives: Life, beat_timeouts_s: tuple[float, ...]) -> dict[int, GroupEnded]:
        """Groups of one rank each, side by side; how each ended by its place among `lives`, the first to end first."""

        def rank_main(line: bytes, rank: int, report_path: str, heartbeats: Connection) -> None:
            self._settle()
            place = read_probe(line).number
            lives[place](FakeRank(rank, Path(report_path), heartbeats, place))
            os._exit(0)

        self._patch.setattr(forked_process, "rank_main", rank_main)
        groups = [self._group(place, 64, timeout_s, True) for place, timeout_s in enumerate(beat_timeouts_s)]
        run_together(groups, self.commands)
        return {message.number: message for message in self.said if isinstance(message, GroupEnded)}

    def _group(
        self,
        number: int,
        rank_count: int,
        heartbeat_timeout_s: float,
        is_rehearsal: bool = False,
        time_limit_s: float | None = None,
        step_silence_s: float | None = None,
    ) -> WorkerGroup:
        job = Job(make_request(), STRATEGY, "{}", DeviceKind.CPU, rank_count, is_rehearsal=is_rehearsal)
        shapes = (BatchShape(64, 64.0),)
        scratch = self.folder / str(number)
        scratch.mkdir()
        spec = ProbeSpec(
            job,
            shapes,
            shapes,
            str(scratch),
            str(self.folder / "log"),
            heartbeat_timeout_s,
            False,
            time_limit_s=time_limit_s,
            step_silence_s=step_silence_s,
        )
        return WorkerGroup(CONTEXT, RunProbe(number, spec), self._hear)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path, monkeypatch)
    yield bench
    os.close(bench.reading)
    os.close(bench.writing)


@pytest.fixture
def trains(bench: Bench) -> Life:
    """The life of a rank that ends well, once its first rank's last heartbeat was heard."""
    heard = bench.folder / "heard"

    def hear(message: Message) -> None:
        if isinstance(message, Heartbeat) and message.phase is Phase.BACKWARD:
            heard.touch()

    def train(rank: FakeRank) -> None:
        rank.beat(Phase.START, Phase.BUILD, Phase.FORWARD, Phase.FORWARD, Phase.BACKWARD)
        wait_until(heard.exists)
        rank.end(REPORT, 0)

    bench.on_message = hear
    return train


def hangs(rank: FakeRank) -> None:
    rank.beat(Phase.START, Phase.FORWARD)
    rank.hang()


def beats_on(rank: FakeRank) -> None:
    """Each heartbeat of the first rank is told: its phase is another than that before."""
    while True:
        rank.beat(Phase.FORWARD, Phase.BACKWARD)
        time.sleep(0.01)


def test_ranks_that_end_well_leave_their_reports(bench: Bench, trains: Life) -> None:
    ended = bench.run(trains, trains)
    assert [(end.rank, end.exit_code, end.was_killed, end.report) for end in ended.ends] == [
        (0, 0, False, REPORT),
        (1, 0, False, REPORT),
    ]
    assert (ended.number, ended.silent_rank) == (NUMBER, None)
    assert 0 < ended.start_s <= ended.total_s


def test_the_first_rank_speaks_for_all_and_only_when_its_phase_changes(bench: Bench, trains: Life) -> None:
    bench.run(trains, trains)
    assert bench.said == [Heartbeat(NUMBER, 0, phase, 0) for phase in (Phase.BUILD, Phase.FORWARD, Phase.BACKWARD)]


def test_the_last_phase_of_a_rank_that_dies_is_known(bench: Bench) -> None:
    pids = bench.folder / "pid"

    def dies(rank: FakeRank) -> None:
        pids.write_text(str(os.getpid()))
        rank.beat(Phase.START, Phase.BUILD, Phase.FORWARD, Phase.BACKWARD)
        rank.end(None, 1)

    bench.on_message = lambda message: wait_until(lambda: not is_alive(int(pids.read_text())))
    assert bench.run(dies).ends[0].last_phase is Phase.BACKWARD


def test_the_first_failure_ends_the_others_at_once_with_all_that_they_started(bench: Bench) -> None:
    helper = bench.folder / str(NUMBER) / "helper0"

    def waits_for_ever(rank: FakeRank) -> None:
        rank.start_helper()
        hangs(rank)

    def fails(rank: FakeRank) -> None:
        rank.beat(Phase.START)
        while not helper.exists():
            time.sleep(0.01)
        rank.end(FAILED, 1)

    ended = bench.run(waits_for_ever, fails)
    assert [(end.exit_code, end.was_killed, end.report) for end in ended.ends] == [
        (-signal.SIGKILL, True, None),
        (1, False, FAILED),
    ]
    assert ended.ends[0].last_phase in (Phase.START, Phase.FORWARD)
    wait_until(lambda: not is_alive(int(helper.read_text())))


def test_a_rank_that_something_else_killed_is_told_from_those_that_we_kill(bench: Bench) -> None:
    heard = bench.folder / "heard"
    bench.on_message = lambda message: heard.touch()

    def is_killed(rank: FakeRank) -> None:
        wait_until(heard.exists)
        os.kill(os.getpid(), signal.SIGKILL)

    ended = bench.run(hangs, is_killed)
    assert [(end.exit_code, end.was_killed) for end in ended.ends] == [
        (-signal.SIGKILL, True),
        (-signal.SIGKILL, False),
    ]


def test_a_rank_that_fails_before_the_others_are_watched_ends_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, first = WorkerGroup._fork, []

    def slow_fork(one: WorkerGroup, rank: int) -> object:
        member = fork(one, rank)
        if rank == 1:
            wait_until(lambda: not is_alive(first[0]))
        else:
            first.append(member.process.pid)
        return member

    monkeypatch.setattr(WorkerGroup, "_fork", slow_fork)
    ended = bench.run(lambda rank: rank.end(FAILED, 1), hangs)
    assert ended.silent_rank is None
    assert [end.was_killed for end in ended.ends] == [False, True]


def test_the_rank_that_is_silent_beyond_the_deadline_ends_the_group(bench: Bench) -> None:
    """With the stacks of all ranks in the log."""

    def begins_and_hangs(rank: FakeRank) -> None:
        rank.beat(Phase.START)
        (bench.folder / "begun").touch()
        rank.hang()

    def beats_on_then(rank: FakeRank) -> None:
        wait_until((bench.folder / "begun").exists)
        beats_on(rank)

    bench.on_message = lambda message: bench.pass_time(10.0)
    ended = bench.run(beats_on_then, begins_and_hangs, heartbeat_timeout_s=60.0)
    assert (ended.silent_rank, ended.silent_s) == (1, 60.0)
    assert [end.was_killed for end in ended.ends] == [True, True]
    assert ended.total_s >= 60.0
    _, *stacks = (bench.folder / "log").read_text().split("--- the stacks of ")
    assert stacks[-1].startswith("rank 1, in the start ---")
    assert "in begins_and_hangs" in stacks[-1]


@pytest.mark.parametrize(
    ("phase", "silent_s"), [(Phase.BUILD, 60.0), (Phase.FORWARD, 20.0), (Phase.REWARD, 60.0), (Phase.STEP, 20.0)]
)
def test_within_a_step_a_rank_may_be_silent_for_less(bench: Bench, phase: Phase, silent_s: float) -> None:
    """Building takes as long as it takes, and so does what a reward computes."""

    def hangs_there(rank: FakeRank) -> None:
        rank.beat(phase)
        rank.hang()

    bench.on_message = lambda message: bench.pass_time(5.0)
    ended = bench.run(hangs_there, heartbeat_timeout_s=60.0, step_silence_s=20.0)
    assert (ended.silent_rank, ended.silent_s) == (0, silent_s)


def test_a_heartbeat_moves_the_deadline(bench: Bench) -> None:
    """40 s go by after each of three, and the next one waits for that."""

    def hear(message: Message) -> None:
        bench.pass_time(40.0)
        (bench.folder / f"heard{len(bench.said)}").touch()

    def beats_and_ends(rank: FakeRank) -> None:
        for number, phase in enumerate((Phase.BUILD, Phase.FORWARD, Phase.BACKWARD), 1):
            rank.beat(phase)
            wait_until((bench.folder / f"heard{number}").exists)
        rank.end(REPORT, 0)

    bench.on_message = hear
    ended = bench.run(beats_and_ends, heartbeat_timeout_s=60.0)
    assert ended.silent_rank is None
    assert ended.total_s > 120.0


def test_a_probe_that_goes_on_beyond_its_limit_is_ended(bench: Bench) -> None:
    bench.on_message = lambda message: bench.pass_time(1.0)
    ended = bench.run(beats_on, beats_on, time_limit_s=20.0)
    assert (ended.time_limit_s, ended.silent_rank) == (20.0, None)
    assert [end.was_killed for end in ended.ends] == [True, True]
    assert ended.ends[0].last_phase in (Phase.FORWARD, Phase.BACKWARD)
    assert ended.total_s >= 20.0


def test_a_probe_that_ends_within_its_limit_is_not_late(bench: Bench) -> None:
    assert bench.run(lambda rank: rank.end(REPORT, 0), time_limit_s=60.0).time_limit_s is None


def test_who_asked_hears_now_and_then_that_the_ranks_live(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_group, "_SIGN_S", 0.1)
    sign = Heartbeat(NUMBER, 1, Phase.FORWARD, 0)

    def hear(message: Message) -> None:
        if message == sign:
            (bench.folder / "heard").touch()

    def waits(rank: FakeRank) -> None:
        wait_until((bench.folder / "heard").exists)
        rank.end(REPORT, 0)

    def beats_until_heard(rank: FakeRank) -> None:
        while not (bench.folder / "heard").exists():
            rank.beat(Phase.FORWARD)
            time.sleep(0.01)
        rank.end(REPORT, 0)

    bench.on_message = hear
    ended = bench.run(waits, beats_until_heard)
    assert sign in bench.said
    assert len(bench.said) <= ended.total_s / 0.1  # and not of each heartbeat


def test_a_rank_that_waits_for_a_build_lives_and_the_first_says_for_whom(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 s go by after each wait of the first that is told, and the next ones wait for that."""

    def hear(message: Message) -> None:
        bench.pass_time(40.0)
        (bench.folder / f"heard{len(bench.said)}").touch()

    def waits(rank: FakeRank) -> None:
        for number in range(1, 4):
            if rank.index == 0:
                wait_until((bench.folder / f"waits{number}").exists)
            rank.wait_for_build(100 + rank.index)
            (bench.folder / f"waits{number}").touch()
            wait_until((bench.folder / f"heard{number}").exists)
        rank.end(REPORT, 0)

    monkeypatch.setattr(worker_group, "_SIGN_S", 600.0)
    bench.on_message = hear
    ended = bench.run(waits, waits, heartbeat_timeout_s=60.0)
    assert ended.total_s > 120.0
    assert [end.report for end in ended.ends] == [REPORT, REPORT]
    assert set(bench.said) == {BuildWait("op", "/builds/op/lock", 100)}


def test_ranks_that_are_killed_in_a_build_take_its_lock_along(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = bench.folder / "builds"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(builds))

    def compiles(rank: FakeRank) -> None:
        rank.build(builds / "op")
        rank.hang()

    def fails(rank: FakeRank) -> None:
        wait_until((builds / "op/lock").exists)
        rank.end(FAILED, 1)

    with building(builds / "other") as other:
        bench.run(compiles, fails)
        assert list(builds.rglob("lock")) == [other.lock]


def test_the_ranks_meet_in_a_file_of_which_nothing_is_left(bench: Bench) -> None:
    stores = bench.folder / "stores"

    def meets(rank: FakeRank) -> None:
        with Path(rank.store_path).open("a+") as store:
            store.write(f"{rank.index} ")
            store.flush()
            rank.beat(Phase.BUILD)
            wait_until(lambda: len(Path(rank.store_path).read_text().split()) == 2)  # each has seen the other
        with stores.open("a") as seen:
            seen.write(f"{rank.store_path}\n")
        rank.end(REPORT, 0)

    ended = bench.run(meets, meets)
    assert [end.report for end in ended.ends] == [REPORT, REPORT]
    (path,) = set(stores.read_text().split())
    assert path.startswith(f"/proc/{os.getpid()}/fd/")
    assert not Path(path).exists()


def test_the_ranks_end_with_the_one_who_asked_for_them(bench: Bench) -> None:
    pids = bench.folder / "pid"

    def is_seen_and_hangs(rank: FakeRank) -> None:
        pids.write_text(str(os.getpid()))
        hangs(rank)

    bench.on_message = lambda message: bench.leave()
    with pytest.raises(CommandsClosed):
        bench.run(is_seen_and_hangs)
    assert not is_alive(int(pids.read_text()))


def test_rehearsals_end_each_by_itself(bench: Bench) -> None:
    """One fails at once, one falls silent, and the third goes on past both."""

    def has_ended(number: int) -> bool:
        return (bench.folder / f"ended{number}").exists()

    def hear(message: Message) -> None:
        if isinstance(message, GroupEnded):
            (bench.folder / f"ended{message.number}").touch()

    def outlives(rank: FakeRank) -> None:
        wait_until(lambda: has_ended(0) and has_ended(1))
        rank.beat(Phase.BUILD)
        rank.end(REPORT, 0)

    bench.on_message = hear
    ended = bench.rehearse(lambda rank: rank.end(FAILED, 1), hangs, outlives, beat_timeouts_s=(60.0, 0.5, 60.0))
    assert set(ended) == {0, 1, 2}
    assert [one.ends[0].report for _, one in sorted(ended.items())] == [FAILED, None, REPORT]
    assert [one.ends[0].was_killed for _, one in sorted(ended.items())] == [False, True, False]
    assert [one.silent_rank for _, one in sorted(ended.items())] == [None, 0, None]
    assert list(ended)[-1] == 2
    assert Heartbeat(2, 0, Phase.BUILD, 0) in bench.said


def test_all_rehearsals_end_with_the_one_who_asked_for_them(bench: Bench) -> None:
    pids: list[int] = []

    def is_seen_and_hangs(rank: FakeRank) -> None:
        (bench.folder / f"pid{rank.number}").write_text(str(os.getpid()))
        hangs(rank)

    def hear(message: Message) -> None:
        assert isinstance(message, Heartbeat)
        pids.append(int((bench.folder / f"pid{message.number}").read_text()))
        if len(pids) == 2:
            bench.leave()

    bench.on_message = hear
    with pytest.raises(CommandsClosed):
        bench.rehearse(is_seen_and_hangs, is_seen_and_hangs, beat_timeouts_s=(60.0, 60.0))
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


def test_a_share_of_a_script_has_its_own_ranks_and_the_specs_files(bench: Bench) -> None:
    def reads(rank: FakeRank) -> None:
        rank.beat(Phase.BUILD)
        (bench.folder / f"read{rank.index}").write_text((bench.scratch / "ds.json").read_text())
        rank.end(REPORT, 0)

    ended = bench.run_share(reads, reads, files=(("ds.json", "{}"),))
    assert [(end.rank, end.report) for end in ended.ends] == [(4, REPORT), (5, REPORT)]
    assert [(bench.folder / f"read{rank}").read_text() for rank in (4, 5)] == ["{}", "{}"]
    assert not bench.scratch.exists()


def test_a_scratch_folder_that_nodes_share_is_cleared_by_the_last(bench: Bench) -> None:
    others = bench.scratch / "node0/rank0.json"
    others.parent.mkdir(parents=True)
    others.touch()
    bench.run_share(lambda rank: rank.end(REPORT, 0))
    assert others.exists()
    assert not (bench.scratch / "node1").exists()


@pytest.mark.parametrize("name", ["../ds.json", "/ds.json", "..", "a/b"])
def test_a_file_stays_in_the_scratch_folder(bench: Bench, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a file"):
        bench.run_share(hangs, files=((name, "{}"),))
    assert not bench.scratch.exists()


def test_what_a_script_shows_is_passed_on(bench: Bench) -> None:
    facts = make_facts()

    def shows(rank: FakeRank) -> None:
        rank.show(facts)
        rank.end(REPORT, 0)

    bench.run_share(shows)
    assert bench.said == [ScriptSeen(NUMBER, facts)]


def test_a_probe_that_failed_elsewhere_is_ended_here(bench: Bench) -> None:
    def hear(message: Message) -> None:
        if isinstance(message, Heartbeat):  # in one piece with a command that is for later
            os.write(bench.writing, to_line(EndProbe(NUMBER + 1)) + to_line(EndProbe(NUMBER)) + SURVEY)

    bench.on_message = hear
    ended = bench.run(hangs, hangs)
    assert [end.was_killed for end in ended.ends] == [True, True]
    assert ended.silent_rank is None
    assert bench.commands.next_line() == SURVEY.rstrip(b"\n")


def _description(bench: Bench, main: Callable[[bytes, Connection], None]) -> Message:
    bench._patch.setitem(answering_process._MAINS, DescribeModel, main)
    command = DescribeModel(make_request(), "the.log")
    return answer_in_child(CONTEXT, command, bench.commands)  # type: ignore[arg-type]


def test_a_description_answers_from_its_child(bench: Bench) -> None:
    own = os.getpid()

    def answers(line: bytes, answer: Connection) -> None:
        answer.send_bytes(to_line(Refused(f"in another process: {os.getpid() != own}")))

    assert _description(bench, answers) == Refused("in another process: True")


def test_a_description_that_dies_names_its_log(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match=r"the\.log"):
        _description(bench, lambda line, answer: os._exit(1))


def _survey(bench: Bench, main: Callable[[bytes, Connection], None], send: Callable[[Message], None]) -> SurveyProcess:
    bench._patch.setattr(survey_process, "survey_main", main)
    return SurveyProcess(CONTEXT, Survey(make_request(), "the.log"), send)  # type: ignore[arg-type]


def test_a_survey_says_what_it_says_whatever_else_goes_on(bench: Bench) -> None:
    said: list[Message] = []

    def answers(line: bytes, answer: Connection) -> None:
        answer.send_bytes(to_line(RowsMade(1, 2)))
        answer.send_bytes(to_line(SurveyRefused("row 2")))

    _survey(bench, answers, said.append)
    wait_until(lambda: len(said) == 2)
    assert said == [RowsMade(1, 2), SurveyRefused("row 2")]


def test_a_survey_that_dies_names_its_log(bench: Bench) -> None:
    said: list[Message] = []
    _survey(bench, lambda line, answer: os._exit(1), said.append)
    wait_until(lambda: bool(said))
    assert said == [AgentFailed("the survey of the data ended without an answer; see the.log")]


def test_a_survey_that_is_ended_in_a_build_takes_its_lock_along(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(bench.folder))
    lock = bench.folder / "op/lock"
    lock.parent.mkdir()

    def compiles(line: bytes, answer: Connection) -> None:
        assert FileBaton(lock).try_acquire()
        time.sleep(600)

    survey = _survey(bench, compiles, lambda message: None)
    wait_until(lock.exists)
    survey.end()
    assert not lock.exists()


def test_a_description_that_is_ended_in_a_build_takes_its_lock_along(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(bench.folder))
    lock = bench.folder / "op/lock"
    lock.parent.mkdir()

    def compiles(line: bytes, answer: Connection) -> None:
        os.close(bench.writing)
        assert FileBaton(lock).try_acquire()
        time.sleep(600)

    def leave() -> None:
        wait_until(lock.exists)
        bench.leave()

    leaving = Thread(target=leave)
    leaving.start()
    with pytest.raises(CommandsClosed):
        _description(bench, compiles)
    leaving.join()
    assert not lock.exists()
