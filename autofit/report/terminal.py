"""The live screen: a header that stays, a table that moves, a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from autofit.domain import event as ev

from .download import Downloading, download_lines
from .ladder.ladder_table import table_lines
from .line import Line
from .message import message_lines
from .progress import progress_lines, starting_lines
from .survey_lines import survey_lines
from .view import View, fold

_WIDEST = 100  # columns: longer lines are harder to read
_WIDEST_TABLE = 130  # with the ratios
_FRAMES_PER_S = 4


class LiveScreen:
    """Draws from the last view only, so that rich's thread may ask for a frame at any time."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._view = View()
        self._live: Live | None = None
        self._has_table = False  # from the ladder to the choice

    def __enter__(self) -> LiveScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settle()
        if self._download is not None:
            self._print(download_lines(self._download, width=self._width))

    def show(self, event: ev.Event) -> None:
        if isinstance(event, ev.PhaseStarted):
            self._settle()  # what moves is the phase's before
        self._view = fold(self._view, event, self._clock())
        if isinstance(event, (ev.Chosen, ev.GaveUp, ev.TrainingStarted, ev.TrainingEnded)):
            self._settle()
        self._has_table = self._view.ladder is not None and self._view.choice is None and self._view.give_up is None
        if not self._moves:
            self._settle()
        self._print(message_lines(self._view, event, width=self._width))
        if self._moves and self._live is None:
            self._start()

    def redraw(self) -> None:
        """Draw now instead of at the next frame."""
        if self._live is not None:
            self._live.refresh()

    def frame(self) -> Text:
        """What moves now: the training's bar, or before it the table and the download."""
        if self._view.progress is not None:
            return _rich(progress_lines(self._view.progress, width=self._width))
        if self._view.training is not None:
            return _rich(starting_lines(self._clock() - self._view.training_since_s, self._view.loading))
        below = self._below()
        if not self._has_table:
            return _rich(below)
        below = [(), *below] if below else []
        room = self._console.height - 4 - len(below)  # the heading, a blank line and the cursor's
        lines = table_lines(self._view, self._clock(), width=self._table_width, row_limit=room, waiting="waiting")
        return _rich([(), *lines[:room], *below])

    def _below(self) -> list[Line]:
        """What goes on beside the search."""
        survey, download = self._survey, self._download
        lines = [] if survey is None else survey_lines(survey, width=self._width)
        return lines + ([] if download is None else download_lines(download, width=self._width))

    @property
    def _moves(self) -> bool:
        """Whether there is anything to draw that moves."""
        is_training = self._view.training is not None and self._view.result is None
        return is_training or self._has_table or self._download is not None or self._survey is not None

    @property
    def _download(self) -> Downloading | None:
        """The download while somebody waits for it."""
        return None if self._view.give_up is not None else self._view.download

    @property
    def _survey(self) -> ev.SurveyProgress | None:
        """The count of the rows while somebody waits for it."""
        return None if self._view.give_up is not None else self._view.survey

    @property
    def _width(self) -> int:
        return min(self._console.width, _WIDEST)

    @property
    def _table_width(self) -> int:
        return min(self._console.width, _WIDEST_TABLE)

    def _start(self) -> None:
        self._live = Live(
            console=self._console, get_renderable=self.frame, refresh_per_second=_FRAMES_PER_S, transient=True
        )
        self._live.start(refresh=True)

    def _settle(self) -> None:
        """Take the moving part away and leave its last state as plain lines."""
        if self._live is None:
            return
        self._live.stop()
        self._live = None
        if self._has_table:
            self._print([(), *table_lines(self._view, self._clock(), width=self._table_width), ()])
        elif self._view.progress is not None:
            self._print(progress_lines(self._view.progress, width=self._width))

    def _print(self, lines: list[Line]) -> None:
        if lines:
            self._console.print(_rich(lines))


def _rich(lines: Iterable[Line]) -> Text:
    rows = [Text.assemble(*((text, style.value) for text, style in line)) for line in lines]
    return Text("\n", no_wrap=True, overflow="ellipsis", end="").join(rows)
