"""Which rank of a full run died, and where it was, by what the ranks say of themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autofit.domain.outcome import Phase, Place
from autofit.probing.protocol import FailureKind, RankEnd, RankFailed, RankReport, RankTrained, to_line
from autofit.process.rank_place import PlaceFile, read_place, write_exit_code
from autofit.running.rank_watch import RankWatch, report_path

TRAINED = RankTrained(5, 3, 2, 2.5, 1.5, 100.0)
LOST = RankFailed(FailureKind.LOST_NEIGHBOUR, Phase.BACKWARD, Place.DEVICE, "connection reset by peer", 1.0)
CRASHED = RankFailed(FailureKind.CRASHED, Phase.BACKWARD, Place.DEVICE, "boom", 1.0)
PHASES = [Phase.FORWARD, Phase.INITIALIZE]
_RANK = """
import sys, time
from pathlib import Path
from autofit.domain.outcome import Phase
from autofit.process.rank_place import PlaceFile
place = PlaceFile(Path(sys.argv[1]), int(sys.argv[2]))
place.write(Phase.START)
place.write(Phase(sys.argv[3]))
print("there", flush=True)
time.sleep(600)
"""


class Ranks:
    """Two processes that have said where they are."""

    def __init__(self, folder: Path) -> None:
        commands = [[sys.executable, "-c", _RANK, str(folder), str(n), phase.value] for n, phase in enumerate(PHASES)]
        self._processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"

    def kill(self, rank: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Nobody has waited for it yet, as below DeepSpeed's launcher in its second of sleep."""
        self._processes[rank].send_signal(number)
        os.waitid(os.P_PID, self._processes[rank].pid, os.WEXITED | os.WNOWAIT)

    def wait(self, rank: int) -> None:
        self._processes[rank].wait()

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate(timeout=30)


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    started = Ranks(tmp_path)
    yield started
    started.end()


def leave(folder: Path, rank: int, report: RankReport) -> None:
    report_path(folder, rank).write_bytes(to_line(report))


def dead(rank: int, exit_code: int | None = -signal.SIGKILL) -> RankEnd:
    """By itself."""
    return RankEnd(rank, exit_code, False, PHASES[rank], None)


def ended(rank: int, report: RankReport | None = None) -> RankEnd:
    """For another one's sake."""
    return RankEnd(rank, None, True, PHASES[rank], report)


def test_the_first_to_fall_died_and_the_others_were_ended_for_it(ranks: Ranks, tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    watch.poll()
    assert watch.ends() == (dead(0, None), dead(1, None)), "both still run"
    ranks.kill(1)
    watch.poll()
    ranks.kill(0)
    watch.poll()
    assert watch.ends() == (ended(0), dead(1))


def test_a_rank_that_somebody_waited_for_has_fallen_without_its_exit_code(ranks: Ranks, tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    ranks.kill(0)
    ranks.wait(0)
    watch.poll()
    assert watch.ends() == (dead(0, None), ended(1))


def test_a_rank_that_left_its_report_has_not_fallen(ranks: Ranks, tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    leave(tmp_path, 0, TRAINED)
    ranks.kill(0)
    watch.poll()
    ranks.kill(1)
    watch.poll()
    assert watch.ends() == (ended(0, TRAINED), dead(1))


def test_who_lost_a_killed_neighbour_and_said_so_does_not_hide_it(ranks: Ranks, tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    ranks.kill(1)
    leave(tmp_path, 0, LOST)
    watch.poll()
    assert watch.ends() == (ended(0, LOST), dead(1))


def test_a_killed_rank_whose_launcher_saw_it_first_is_known_by_what_that_left(ranks: Ranks, tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    ranks.kill(1)
    write_exit_code(tmp_path, 1, -signal.SIGKILL)
    ranks.wait(1)
    leave(tmp_path, 0, LOST)
    watch.poll()
    assert watch.ends() == (ended(0, LOST), dead(1))


def test_a_rank_that_ended_with_0_and_no_report_has_fallen_with_what_the_launcher_saw(
    ranks: Ranks, tmp_path: Path
) -> None:
    """The kernel tells 0 where it does not let us see how a process ended, too."""
    watch = RankWatch(tmp_path, 2)
    watch.poll()
    ranks.kill(1)
    ranks.wait(1)
    leave(tmp_path, 0, LOST)
    watch.poll()
    write_exit_code(tmp_path, 1, 0)
    assert watch.ends() == (ended(0, LOST), dead(1, 0))


def test_who_lost_a_neighbour_may_say_so_before_that_one_is_gone(ranks: Ranks, tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    leave(tmp_path, 0, LOST)
    watch.poll()
    assert watch.ends() == (ended(0, LOST), ended(1))
    ranks.kill(1)
    watch.poll()
    assert watch.ends() == (ended(0, LOST), dead(1))


@pytest.mark.parametrize("is_waited_for", [False, True])
def test_who_was_ended_after_a_failure_has_not_fallen(ranks: Ranks, tmp_path: Path, is_waited_for: bool) -> None:
    """By launch.py, which has waited for it, or is about to."""
    watch = RankWatch(tmp_path, 2)
    leave(tmp_path, 0, LOST)
    watch.poll()
    ranks.kill(1, signal.SIGTERM)
    if is_waited_for:
        ranks.wait(1)
    watch.poll()
    assert watch.ends() == (ended(0, LOST), ended(1))


@pytest.mark.parametrize(("report", "is_cause"), [(LOST, True), (CRASHED, False)])
def test_who_was_terminated_before_anybody_lost_it_has_fallen(
    ranks: Ranks, tmp_path: Path, report: RankFailed, is_cause: bool
) -> None:
    """Somebody sent it SIGTERM; one that crashed lost nobody, and has the launcher end the others with the same
    signal."""
    watch = RankWatch(tmp_path, 2)
    watch.poll()
    ranks.kill(1, signal.SIGTERM)
    leave(tmp_path, 0, report)
    watch.poll()
    assert watch.ends() == (ended(0, report), dead(1, -signal.SIGTERM) if is_cause else ended(1))


def test_of_ranks_that_never_began_nothing_is_said(tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    watch.poll()
    assert watch.ends() == ()
    assert watch.phase(0) is Phase.START


def test_a_place_is_whole_whatever_was_written_before_it(tmp_path: Path) -> None:
    file = PlaceFile(tmp_path, 3)
    assert read_place(tmp_path, 3) is None, "it has begun, and said nothing yet"
    for phase in sorted(Phase, key=lambda phase: -len(phase.value)):
        file.write(phase)
        place = read_place(tmp_path, 3)
        assert place is not None
        assert (place.process_id, place.phase) == (os.getpid(), phase)
