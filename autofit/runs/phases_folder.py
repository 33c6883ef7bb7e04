"""The folder of several trainings in a row: a run folder for each, in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from autofit.domain.errors import UsageError

from .run_folder import RunFolder
from .shared_folder import OUTPUT_FLAG, check_location

_NAME = re.compile(r"(\d+)-(.+)")


class PhasesFolder:
    """`1-sft`, `2-reward`, …: the run folders of phases, each of which may be looked at as any other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = root / "logs"  # of what is looked at before the first phase starts

    def check(self) -> None:
        """Checks the folder and writes nothing; UsageError where it is not to be used."""
        check_location(self.root, OUTPUT_FLAG)
        if RunFolder(self.root).exists:
            raise UsageError(
                f"{self.root} is the run folder of one training, and several are asked for: name another folder with "
                f"{OUTPUT_FLAG}."
            )

    def of(self, number: int, name: str) -> RunFolder:
        """The run folder of a phase, the first of which has the number 1."""
        return RunFolder(self.root / f"{number}-{name}")

    def begun(self) -> Iterator[tuple[str, RunFolder]]:
        """The phases that were begun here by their names, in their order."""
        found = [(match, path) for path in self.root.glob("*") if (match := _NAME.fullmatch(path.name))]
        for match, path in sorted(found, key=lambda one: int(one[0][1])):
            folder = RunFolder(path)
            if folder.exists:
                yield match[2], folder
