"""Lines from a descriptor, read together with other things that one waits for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing.connection import wait


class CommandsClosed(Exception):
    """The other side of the commands has gone."""


class LineReader:
    """Reads whole lines of `fd`; `is_closed` once the other side has gone. `fileno` makes it something to wait on."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = b""
        self.is_closed = False

    def fileno(self) -> int:
        return self._fd

    def read_more(self) -> None:
        """Takes what is there; blocks when nothing is."""
        chunk = os.read(self._fd, 65536)
        self.is_closed = not chunk
        self._buffer += chunk

    def peek(self) -> bytes | None:
        """The next line if it is there already; it stays."""
        line, end, _ = self._buffer.partition(b"\n")
        return line if end else None

    def next_line(self) -> bytes | None:
        """The next line, waiting for it; None at the end."""
        while b"\n" not in self._buffer:
            if self.is_closed:
                return None
            self.read_more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def wait_or_interrupt(sources: Sequence[object], commands: LineReader, timeout_s: float | None = None) -> list[object]:
    """Which of `sources` are ready, none after `timeout_s`; raises CommandsClosed when the commands end meanwhile."""
    while True:
        ready: list[object] = list(wait([commands, *sources], timeout_s))  # type: ignore[list-item]
        if commands not in ready:
            return ready
        commands.read_more()
        if commands.is_closed:
            raise CommandsClosed


def wait_or_command(sources: Sequence[object], commands: LineReader, timeout_s: float) -> list[object]:
    """Waits as `wait_or_interrupt`, but also ends, with nothing ready, when more of a command has come."""
    ready: list[object] = list(wait([commands, *sources], timeout_s))  # type: ignore[list-item]
    if commands in ready:
        commands.read_more()
        if commands.is_closed:
            raise CommandsClosed
    return [source for source in ready if source is not commands]
