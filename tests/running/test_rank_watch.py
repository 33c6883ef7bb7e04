"""Which rank of a full run died, and where it was, by what the ranks say of themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autofit.domain.outcome import Phase
from autofit.probing.protocol import RankEnd, RankTrained, to_line
from autofit.probing.rank_place import PlaceFile, read_place
from autofit.running.rank_watch import RankWatch, report_path

TRAINED = RankTrained(5, 3, 2, 2.5, 1.5, 100.0)
PHASES = [Phase.FORWARD, Phase.INITIALIZE]
_RANK = """
import sys, time
from pathlib import Path
from autofit.domain.outcome import Phase
from autofit.probing.rank_place import PlaceFile
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

    def kill(self, rank: int) -> None:
        """Nobody has waited for it yet, as below DeepSpeed's launcher in its second of sleep."""
        self._processes[rank].kill()
        os.waitid(os.P_PID, self._processes[rank].pid, os.WEXITED | os.WNOWAIT)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate(timeout=30)


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    started = Ranks(tmp_path)
    yield started
    started.end()


def dead(rank: int, *, was_killed: bool) -> RankEnd:
    return RankEnd(rank, None, was_killed, PHASES[rank], None)


def test_the_first_to_fall_died_and_the_others_were_ended_for_it(ranks: Ranks, tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    watch.look()
    ranks.kill(1)
    watch.look()
    ranks.kill(0)
    watch.look()
    assert watch.ends({}) == (dead(0, was_killed=True), dead(1, was_killed=False))


def test_a_rank_that_was_gone_before_anybody_looked_has_fallen(ranks: Ranks, tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    ranks.kill(0)
    watch.look()
    assert watch.ends({}) == (dead(0, was_killed=False), dead(1, was_killed=True))


def test_a_rank_that_left_its_report_has_not_fallen(ranks: Ranks, tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    report_path(tmp_path, 0).write_bytes(to_line(TRAINED))
    ranks.kill(0)
    watch.look()
    ranks.kill(1)
    watch.look()
    assert watch.ends({0: TRAINED}) == (
        RankEnd(0, None, True, Phase.FORWARD, TRAINED),
        dead(1, was_killed=False),
    )


def test_of_ranks_that_never_began_nothing_is_said(tmp_path: Path) -> None:
    watch = RankWatch(tmp_path, 2)
    watch.look()
    assert watch.ends({}) == ()
    assert watch.phase(0) is Phase.START


def test_a_place_is_whole_whatever_was_written_before_it(tmp_path: Path) -> None:
    file = PlaceFile(tmp_path, 3)
    assert read_place(tmp_path, 3) is None, "it has begun, and said nothing yet"
    for phase in sorted(Phase, key=lambda phase: -len(phase.value)):
        file.write(phase)
        place = read_place(tmp_path, 3)
        assert place is not None
        assert (place.process_id, place.phase) == (os.getpid(), phase)
