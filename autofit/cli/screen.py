"""The screen that suits where the output goes."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager
from typing import Protocol, TextIO, cast

from autofit.domain.event import Event
from autofit.probing.lasting_stream import LastingStream


class OpenScreen(AbstractContextManager["OpenScreen"], Protocol):
    def show(self, event: Event) -> None: ...


def open_screen(*, is_json: bool = False, stream: TextIO | None = None) -> OpenScreen:
    """The live table on a terminal, plain lines elsewhere; one JSON object where that was asked for.

    On `stream`, or on the standard output. When nobody can read it any more, the showing ends and nothing else.
    """
    stream = cast(TextIO, LastingStream(stream or sys.stdout))
    if is_json:
        from autofit.report.json_screen import JsonScreen

        return JsonScreen(stream)
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from rich.console import Console

        from autofit.report.terminal import LiveScreen

        return LiveScreen(Console(file=stream, highlight=False), time.monotonic)
    from autofit.report.plain import PlainScreen

    return PlainScreen(stream, time.monotonic)
