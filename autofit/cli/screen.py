"""The screen that suits where the output goes, opened at once or when there is something to show."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO, cast

from autofit.process.best_effort_stream import BestEffortStream

if TYPE_CHECKING:
    from autofit.domain.event import Event


class OpenScreen(AbstractContextManager["OpenScreen"], Protocol):
    def show(self, event: Event) -> None: ...


def open_screen(*, is_json: bool = False, stream: TextIO | None = None) -> OpenScreen:
    """Opens the live table on a terminal, plain lines elsewhere; one JSON object where that was asked for.

    On `stream`, or on the standard output. When nobody can read it any more, the showing ends and nothing else.
    """
    stream = cast(TextIO, BestEffortStream(stream or sys.stdout))
    if is_json:
        from autofit.report.json_screen import JsonScreen

        return JsonScreen(stream)
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from rich.console import Console

        from autofit.report.terminal import LiveScreen

        return LiveScreen(Console(file=stream, highlight=False), time.monotonic)
    from autofit.report.plain import PlainScreen

    return PlainScreen(stream, time.monotonic)


class LateScreen:
    """A screen on stderr, for stdout is the training's. A job that is handed over at once pays nothing for it.

    Closed at the end of `with`, so that the terminal is the training's alone; a further event opens it again.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._screen: OpenScreen | None = None

    def __enter__(self) -> LateScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen = None
        self._stack.__exit__(kind, error, trace)

    def show(self, event: Event) -> None:
        if self._screen is None:
            self._screen = self._stack.enter_context(open_screen(stream=sys.stderr))
        self._screen.show(event)
