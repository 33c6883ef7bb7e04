"""What a way to start a program on every node gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


Launch = Callable[[LaunchLine, Path, Sequence[str], Path], Launched]  # line, program, its arguments, log
