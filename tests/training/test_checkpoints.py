"""Checkpoints of real trainings: whole or not there, whatever ends the ranks and whatever the disk says."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autofit.domain.request import Request
from autofit.probing.protocol import FailureKind, RankFailed
from autofit.process.process_state import ProcessState, process_state
from autofit.process.rank_place import read_place
from autofit.process.saved_steps import PARTIAL
from autofit.runs.run_folder import RunFolder
from tests.training.runs import Case, Ended, Runs, training
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
Rows = Callable[[int], Path]
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Disturbed:
    """A training in `folder` that is disturbed while it runs."""

    runs: Runs
    case: Case
    request: Request
    folder: Path

    def while_running(self, disturb: Callable[[], None]) -> Ended:
        with ThreadPoolExecutor(1) as beside:
            disturbance = beside.submit(disturb)
            ended = self.runs.autofit(self.case, self.request, self.folder)
            disturbance.result()
        return ended

    def again(self) -> Ended:
        """The same, with nothing that disturbs it."""
        return self.runs.autofit(self.case, self.request, self.folder)

    @property
    def checkpoints(self) -> Path:
        return RunFolder(self.folder).checkpoints

    def saved(self) -> set[str]:
        return {path.name for path in self.checkpoints.glob("*") if path.is_dir()}

    def kill_while_saving(self, rank: int) -> None:
        """Kills a rank in the middle of a save, of any checkpoint but the first."""
        while True:
            wait_until(lambda: "checkpoint-1" in self.saved() and PARTIAL in self.saved(), what="another save")
            pids = [self.process_id(each) for each in range(self.case.ranks)]
            _signal(pids, signal.SIGSTOP)  # else it may be over by now
            if any((self.checkpoints / PARTIAL).glob("checkpoint-*")):
                os.kill(pids[rank], signal.SIGKILL)
                _signal(pids, signal.SIGCONT)
                return
            _signal(pids, signal.SIGCONT)

    def limit_files(self, rank: int) -> Callable[[], None]:
        """Lets a rank that has begun to train write no file as large as its part of a checkpoint; gives what lifts
        the limit."""
        begun = len(self.steps())
        wait_until(lambda: len(self.steps()) > begun + 3, what="a step")
        pid, most_bytes = self.process_id(rank), 500_000  # more than the log takes
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
        return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, before) and None

    def process_id(self, rank: int) -> int:
        place = read_place(RunFolder(self.folder).logs, rank)
        assert place is not None
        return place.process_id

    def notes(self) -> list[str]:
        return [entry["text"] for entry in self._told("Note")]

    def steps(self) -> list[int]:
        return [entry["step"] for entry in self._told("TrainingProgress")]

    def _told(self, kind: str) -> list[dict[str, Any]]:
        path = RunFolder(self.folder).progress
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        return [entry for entry in entries if entry["type"] == kind]


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        if process_state(pid) is not ProcessState.ENDED:
            os.kill(pid, number)


def losses(ended: Ended) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in ended.steps}


@pytest.fixture
def disturbed(runs: Runs, model: Path, rows: Rows, tmp_path: Path) -> Disturbed:
    request = training(model, rows(37), epochs=4.0, save_steps=1)
    return Disturbed(runs, Case(stage=2), request, tmp_path / "run")


def test_a_training_killed_in_the_middle_of_a_save_goes_on_from_the_checkpoint_before(disturbed: Disturbed) -> None:
    """And where that is torn from the one before it; killed while it saves its model it only saves: from the last
    checkpoint, or from an older one to the same step."""
    undisturbed = disturbed.runs.autofit(disturbed.case, disturbed.request)
    assert undisturbed.codes == [0, 0], undisturbed.log
    assert len(losses(undisturbed)) == 12

    killed = disturbed.while_running(lambda: disturbed.kill_while_saving(1))
    assert killed.codes[1] == -signal.SIGKILL, killed.log
    assert PARTIAL in disturbed.saved()
    last = RunFolder(disturbed.folder).last_checkpoint
    assert last is not None
    (shards,) = Path(last).glob("global_step*")
    os.truncate(shards / "zero_pp_rank_1_mp_rank_00_optim_states.pt", 1000)

    ended = disturbed.again()
    assert ended.codes == [0, 0], ended.log
    (note,) = disturbed.notes()
    assert note.startswith(f"{last} is not whole (global_step")
    assert "has 1,000 of" in note
    weights = (undisturbed.model / WEIGHTS).read_bytes()
    assert losses(ended) == losses(undisturbed)
    assert (ended.model / WEIGHTS).read_bytes() == weights
    assert disturbed.saved() == {"checkpoint-11", "checkpoint-12"}

    for removed in ("model", "checkpoints/checkpoint-12"):
        shutil.rmtree(disturbed.folder / removed)
        saved = disturbed.again()
        assert saved.codes == [0, 0], saved.log
        assert saved.trained.step_count == 12
        assert losses(saved) == losses(undisturbed)
        assert (saved.model / WEIGHTS).read_bytes() == weights


def test_a_rank_without_room_for_its_part_ends_no_training(disturbed: Disturbed) -> None:
    """All ranks leave the checkpoint out, older ones give room, and the next that is due is there. A model without room
    is told with what is kept."""
    ended = disturbed.while_running(lambda: disturbed.limit_files(0))
    assert ended.codes == [1, 1], ended.log
    report = ended.reports[0]
    assert isinstance(report, RankFailed)
    assert report.kind is FailureKind.DISK_FULL
    (kept,) = disturbed.saved()
    assert report.message.startswith(f"there is no space left for {ended.model}, whose weights take 82")
    assert report.message.endswith(f"It was trained to its end, and {kept} is the last that is kept")
    notes = disturbed.notes()
    assert any(f"the training goes on, and tries again when the next one is due; {kept}" in note for note in notes)
    assert notes[-1].endswith(f": the training ends without it; {kept} is the last that is kept")

    def limit_for_a_while() -> None:
        lift = disturbed.limit_files(1)
        wait_until(lambda: len(disturbed.notes()) > told, what="a note")
        lift()

    told = len(disturbed.notes())
    ended = disturbed.while_running(limit_for_a_while)
    assert ended.codes == [0, 0], ended.log
    assert "checkpoint-12" in disturbed.saved()
    assert PARTIAL not in disturbed.saved()
    assert ended.trained.step_count == 12
