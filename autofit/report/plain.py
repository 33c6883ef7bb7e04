"""Plain lines for a pipe, a file or a batch job's log."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from autofit.domain import event as ev
from autofit.domain.units import format_seconds

from .download import download_text
from .ladder.ladder_table import table_lines
from .line import labelled, plain
from .message import message_lines
from .outcome_text import verdict_text
from .progress import loading_text, progress_text
from .survey_lines import survey_text
from .view import View, fold

_UNWRAPPED = 10_000  # columns: a log has one line for one thing, to be searched
_QUIET_S = 10.0
_QUIET_SHARE = 0.05  # of the training's steps
_DOWNLOAD_QUIET_S = 60.0
_SURVEY_QUIET_S = 30.0


class PlainScreen:
    """A screen with one line an event, without colour or cursor; the training speaks every 10 s or every 5 % of its
    steps at most, and so does the model that it loads; a download once a minute, the data's rows every 30 s."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._view = View()
        self._begin()

    def _begin(self) -> None:
        self._spoke_s = float("-inf")
        self._spoke_step = 0
        self._spoke_of_download_s = float("-inf")
        self._heard_of_survey_s: float | None = None

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def show(self, event: ev.Event) -> None:
        if isinstance(event, ev.PhaseStarted):
            self._begin()  # its steps are counted from the first again
        self._view = fold(self._view, event, self._clock())
        text = self._text(event)
        if text:
            self._stream.write(text + "\n")
            self._stream.flush()

    def _text(self, event: ev.Event) -> str:
        match event:
            case ev.LadderBuilt():
                return plain(table_lines(self._view, waiting="to try"))
            case ev.ProbeStarted(strategy, why, is_rehearsal):
                return _line("rehearse" if is_rehearsal else "probe", f"{strategy}: {why}")
            case ev.TrialEnded(trial, is_remembered):
                verdict = verdict_text(trial.outcome, self._view.device_memory_bytes)
                took = "remembered" if is_remembered else f"in {format_seconds(trial.outcome.total_s)}"
                took = f"rehearsed, {took}" if trial.is_rehearsal else took
                return _line("trial", f"{trial.strategy}: {verdict} ({took})")
            case ev.ModelLoading():
                return self._loading_text(event)
            case ev.DownloadProgress():
                return self._download_text()
            case ev.SurveyProgress():
                return self._survey_text(event)
            case ev.TrainingProgress():
                return self._progress_text(event)
        return plain(message_lines(self._view, event, width=_UNWRAPPED))

    def _loading_text(self, loading: ev.ModelLoading) -> str:
        if self._clock() - self._spoke_s < _QUIET_S:
            return ""
        self._spoke_s = self._clock()
        return _line("training", loading_text(loading))

    def _download_text(self) -> str:
        if self._view.download is None or self._clock() - self._spoke_of_download_s < _DOWNLOAD_QUIET_S:
            return ""
        self._spoke_of_download_s = self._clock()
        return _line("weights", download_text(self._view.download))

    def _survey_text(self, progress: ev.SurveyProgress) -> str:
        if self._heard_of_survey_s is None:
            self._heard_of_survey_s = self._clock()  # what takes seconds is not worth a line
        if self._clock() - self._heard_of_survey_s < _SURVEY_QUIET_S:
            return ""
        self._heard_of_survey_s = self._clock()
        return _line("data", survey_text(progress))

    def _progress_text(self, progress: ev.TrainingProgress) -> str:
        if not self._is_due(progress):
            return ""
        self._spoke_s, self._spoke_step = self._clock(), progress.step
        return _line("training", progress_text(self._view.progress or progress))

    def _is_due(self, progress: ev.TrainingProgress) -> bool:
        steps = progress.step - self._spoke_step
        return (
            self._clock() - self._spoke_s >= _QUIET_S
            or steps >= _QUIET_SHARE * progress.step_count
            or (progress.step == progress.step_count and steps > 0)
        )


def _line(label: str, text: str) -> str:
    return plain(labelled(label, text, width=_UNWRAPPED))
