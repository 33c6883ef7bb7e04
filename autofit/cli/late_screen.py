"""A screen that is opened when there is something to show."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autofit.domain.event import Event

    from .screen import OpenScreen


class LateScreen:
    """On stderr, for stdout is the training's. A job that is handed over at once pays nothing for it.

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
            from .screen import open_screen

            self._screen = self._stack.enter_context(open_screen(stream=sys.stderr))
        self._screen.show(event)
