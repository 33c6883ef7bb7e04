"""The screen that suits where the output goes."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager
from typing import Protocol

from autofit.domain.event import Event


class OpenScreen(AbstractContextManager["OpenScreen"], Protocol):
    def show(self, event: Event) -> None: ...


def open_screen(*, is_json: bool) -> OpenScreen:
    """The live table on a terminal, plain lines elsewhere; one JSON object where that was asked for."""
    if is_json:
        from autofit.report.json_screen import JsonScreen

        return JsonScreen(sys.stdout)
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from rich.console import Console

        from autofit.report.terminal import LiveScreen

        return LiveScreen(Console(highlight=False), time.monotonic)
    from autofit.report.plain import PlainScreen

    return PlainScreen(sys.stdout, time.monotonic)
