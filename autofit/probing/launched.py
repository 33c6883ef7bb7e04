"""What a way to start a program on every node gives back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from autofit.domain.launch import LaunchLine


class Launched(Protocol):
    @property
    def exit_code(self) -> int | None:
        """None while it runs."""

    def complaint(self, host: str) -> str | None:
        """Why a host has been given up; None as long as it has not."""

    def last_words(self) -> str:
        """The end of what it and the nodes have written."""

    def end(self, patience_s: float) -> None:
        """Lets it end by itself for so long, then ends it."""


class Launch(Protocol):
    """Starts `program`, a Python file, once on every node of `line`; what it and they write goes to `log_path`."""

    def __call__(self, line: LaunchLine, program: Path, arguments: Sequence[str], log_path: Path) -> Launched: ...
