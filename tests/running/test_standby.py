"""The launcher that stands by, with a stand-in for it: however the waiting ends, nothing of it is left."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.running import standby as module
from autofit.running.standby import Standby
from autofit.running.training_process import Launcher
from tests.running.test_training_process import CPUS, Bench
from tests.waiting import is_alive, wait_until

STANDS_BY = ['echo $$ >> "$0.pid"', 'eval "exec $1>&-"']  # of bash: other shells count descriptors to 9


class Place(Bench):
    """A run folder with a stand-in that stands by there, too."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.waiting = root / "waiting"
        self.fresh_words = root / "fresh"

    def stand_in(self, *lines: str) -> None:
        self.waiting.write_text("#!/bin/bash\n" + "".join(f"{line}\n" for line in lines))
        self.waiting.chmod(0o755)
        self.script(f'echo "$@" > {self.fresh_words}')

    def standby(self) -> Standby:
        return Standby(DeviceKind.CPU, self.log_path, program=[str(self.waiting)])

    @property
    def pid(self) -> int:
        return int(self.waiting.with_suffix(".pid").read_text())

    def train(self, standby: Standby) -> int:
        with Launcher(CPUS, self.files, self.log_path, standby=standby, program=[str(self.program)]) as launcher:
            for _ in launcher.watch():
                pass
        return launcher.exit_code


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: {0, 1})
    return Place(tmp_path)


def test_what_stands_by_is_told_what_to_run(place: Place) -> None:
    place.stand_in(*STANDS_BY, f'read -r line; printf %s "$line" > {place.root}/told; exit 4')
    with place.standby() as standby:
        standby.start()
        standby.settle()
        assert place.train(standby) == 4
    told = json.loads((place.root / "told").read_text())
    assert told[:2] == ["--hostfile", "/dev/null"]
    assert told[-2:] == ["--supervisor", str(os.getpid())]
    assert not place.fresh_words.exists()


@pytest.mark.parametrize("ending", [[], ["exit 1"]], ids=["interrupted", "it has died"])
def test_nothing_is_left_of_what_nobody_wants(place: Place, ending: Sequence[str]) -> None:
    place.stand_in("trap '' INT TERM", *STANDS_BY, *ending, "sleep 600 & wait")
    with suppress(KeyboardInterrupt), place.standby() as standby:
        standby.start()
        standby.settle()
        assert ending or is_alive(place.pid)
        raise KeyboardInterrupt
    wait_until(lambda: not is_alive(place.pid))


def test_the_death_of_what_stands_by_is_not_the_trainings(place: Place) -> None:
    place.stand_in(*STANDS_BY, "exit 1")
    with place.standby() as standby:
        standby.start()
        standby.settle()
        wait_until(lambda: not is_alive(place.pid))
        assert place.train(standby) == 0
    assert "--module autofit.worker.train" in place.fresh_words.read_text()


def test_a_second_start_starts_nothing(place: Place) -> None:
    place.stand_in(*STANDS_BY, "read -r line")
    with place.standby() as standby:
        standby.start()
        standby.settle()
        standby.start()
        standby.settle()
    assert place.waiting.with_suffix(".pid").read_text().count("\n") == 1


def test_a_single_core_is_left_to_the_search(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: {0})
    place.stand_in(*STANDS_BY)
    with place.standby() as standby:
        standby.start()
        standby.settle()
        assert place.train(standby) == 0
    assert not place.waiting.with_suffix(".pid").exists()
    assert place.fresh_words.exists()
