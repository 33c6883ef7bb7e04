"""DeepSpeed's own launcher as the way to start a program once on every node of a job."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from autofit.domain.deepspeed_line import LaunchLine
from autofit.process.child import Child
from autofit.process.python import DEEPSPEED_MODULE, module_command

# What describes the user's script, or is done once for each rank of it; with the number of words that follow.
_OF_THE_SCRIPT = {
    "--module": 0,
    "--no_python": 0,
    "--no_local_rank": 0,
    "--save_pid": 0,
    "--bind_cores_to_rank": 0,
    "--bind_core_list": 1,
    "--enable_each_rank_log": 1,
    "--autotuning": 1,
}
_GAVE_UP = re.compile(r"^pdsh@\S+: (\S+): ssh exited with exit code (\d+)$", re.MULTILINE)
_LOGGED = re.compile(r"\[\d{4}-")  # DeepSpeed's own notes: the cause stands before them
_TAIL_LINES = 8


class Backend:
    """The launcher as a child, with everything that it starts on this machine in its own session."""

    def __init__(self, line: LaunchLine, program: Path, arguments: Sequence[str], log_path: Path) -> None:
        self._log_path = log_path
        self._log_begins_at = log_path.stat().st_size if log_path.exists() else 0
        place = [*placement_options(line.option_words), "--no_local_rank"]
        with log_path.open("ab") as log:
            command = [*module_command(DEEPSPEED_MODULE), *place, str(program), *arguments]
            self._child = Child(command, log)

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._child.exit_code

    def complaint(self, host: str) -> str | None:
        """The last words of pdsh about a host that it has given up; None as long as it has not."""
        return complaint_in(self._log(), host)

    def has_said(self, text: str) -> bool:
        """Whether it or a node has written this."""
        return text in self._log()

    def last_words(self) -> str:
        """The end of what it and the nodes have written."""
        lines = [line for line in self._log().splitlines() if line.strip()]
        return "\n".join(lines[-_TAIL_LINES:])

    def end(self, grace_s: float) -> None:
        """Lets it end by itself for so long, then kills what is left of it here."""
        if not self._child.has_ended(grace_s):
            self._kill()  # a host that cannot be reached keeps its ssh waiting

    def _kill(self) -> None:
        """Kills what is left here. pdsh starts each ssh in a session of its own: they are found as its children."""
        for child in psutil.Process(self._child.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._child.kill()

    def _log(self) -> str:
        with self._log_path.open("rb") as log:
            log.seek(self._log_begins_at)
            return log.read().decode(errors="replace")


def complaint_in(log: str, host: str) -> str | None:
    """What pdsh complains of: it says when it gives a host up, and puts the host's name before each of its lines."""
    names = (host, host.partition(".")[0])  # it leaves out a domain that all have
    if all(match[1] not in names for match in _GAVE_UP.finditer(log)):
        return None
    parts = [line.partition(": ") for line in log.splitlines()]
    said = [words for name, _, words in parts if name in names and not _LOGGED.match(words)]
    return said[-1] if said else "its ssh ended"


def placement_options(option_words: Sequence[str]) -> Iterator[str]:
    """The launcher's options that say where to start and how to get there, abbreviated or not."""
    words = iter(option_words)
    for word in words:
        name, equals, _ = word.partition("=")
        meant = [option for option in _OF_THE_SCRIPT if len(name) > 2 and option.startswith(name)]
        if len(meant) != 1 and name not in _OF_THE_SCRIPT:
            yield word
        elif not equals:
            for _ in range(_OF_THE_SCRIPT[name if name in _OF_THE_SCRIPT else meant[0]]):
                next(words)


class Launched(Protocol):
    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""

    def complaint(self, host: str) -> str | None:
        """Why a host has been given up; None as long as it has not."""

    def has_said(self, text: str) -> bool:
        """Whether it or a node has written this."""

    def last_words(self) -> str:
        """The end of what it and the nodes have written."""

    def end(self, grace_s: float) -> None:
        """Lets it end by itself for so long, then ends it."""


class Launch(Protocol):
    """Starts `program`, a Python file, once on every node of `line`; what it and they write goes to `log_path`."""

    def __call__(self, line: LaunchLine, program: Path, arguments: Sequence[str], log_path: Path) -> Launched: ...
