"""A whole `autofit train` as a command, killed where and when a test likes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autofit.runs.run_folder import RunFolder
from tests.faults.bench import losses
from tests.faults.job import Inputs
from tests.faults.surroundings import Surroundings
from tests.waiting import DEADLINE_S


@dataclass(frozen=True)
class Ended:
    """`left` is what there is afterwards of what was not there before."""

    exit_code: int  # negative for a signal
    said: str
    took_s: float
    left: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """The same command each time, in a folder that holds its run and all that its processes write elsewhere."""

    words: Sequence[str]
    folder: Path

    @classmethod
    def train(cls, inputs: Inputs, folder: Path) -> Command:
        return cls(inputs.words(folder / "run"), folder)

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "run")

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(self.folder, mark=self.folder.name)

    def start(self) -> Running:
        surroundings = self.surroundings
        with surroundings.entered():
            before, log = surroundings.now(), self.folder / "said.txt"
            own = {"AUTOFIT_CACHE": str(self.folder / "cache"), "HF_DATASETS_CACHE": str(self.folder / "datasets")}
            with log.open("wb") as said:
                command = [sys.executable, "-m", "autofit", *self.words]
                process = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, **own})
        return Running(process, log, surroundings, before, time.monotonic())

    def complete(self) -> Ended:
        """Runs it to its end, undisturbed."""
        return self.start().ended()

    def losses(self) -> dict[int, float]:
        """By step, those that the last start has told."""
        return losses(self.run.progress)

    def model(self) -> bytes:
        return (self.run.model / "model.safetensors").read_bytes()

    def step_count(self) -> int:
        return int(json.loads((self.run.root / "result.json").read_text())["step_count"])


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[bytes]
    log: Path
    surroundings: Surroundings
    before: frozenset[str]
    began_s: float  # time.monotonic()

    def has_ended(self, within_s: float) -> bool:
        """Waits for its end, for so long."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ended(self, within_s: float = 2 * DEADLINE_S) -> Ended:
        """Waits for its end; AssertionError where it does not come."""
        if not self.has_ended(within_s):
            self.process.kill()
            raise AssertionError(f"it has not ended within {within_s:.0f} s: {self._said()}")
        took_s = time.monotonic() - self.began_s
        return Ended(self.process.returncode, self._said(), took_s, self.surroundings.left_behind(self.before))

    def _said(self) -> str:
        return " ".join(self.log.read_text(errors="replace").split())
