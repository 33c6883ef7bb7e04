"""A stream that may lose its reader before the work is done that is shown on it."""

from __future__ import annotations

import os
from typing import Any, TextIO


class BestEffortStream:
    """A stream that outlives its reader: what is written goes to `stream` until that fails: a closed pipe, a terminal
    that hung up, a full disk.

    From then on it goes nowhere, without an error. Any thread may write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_lost = False

    @property
    def encoding(self) -> str:
        return self._stream.encoding or "utf-8"

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def write(self, text: str) -> int:
        if not self._is_lost:
            try:
                return self._stream.write(text)
            except OSError:
                self._lose()
        return len(text)

    def flush(self) -> None:
        if not self._is_lost:
            try:
                self._stream.flush()
            except OSError:
                self._lose()

    def _lose(self) -> None:
        self._is_lost = True
        leave(self._stream)


class PatientStream(BestEffortStream):
    """A stream of a process that works on whatever becomes of its words: what cannot be written is left out, and the
    next text is tried again, for a full disk may have room by then."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self) -> None:
        """Keeps the stream."""


def leave(stream: TextIO) -> None:
    """Nobody reads `stream` any more; what it still holds goes nowhere when the interpreter flushes it at its end."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return  # of no file
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
