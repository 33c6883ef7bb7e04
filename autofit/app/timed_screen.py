"""A screen that notes when the marks of a run pass by on their way to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from autofit.domain.event import Chosen, Event, Screen, TrainingProgress
from autofit.domain.timeline import Timeline


class TimedScreen:
    """Shows everything on `screen`; `now` counts seconds."""

    def __init__(self, screen: Screen, now: Callable[[], float]) -> None:
        self._screen, self._now = screen, now
        self._began_at_s = now()
        self._marks = Timeline()
        self._first_step: int | None = None  # that has not passed yet

    def show(self, event: Event) -> None:
        match event:
            case Chosen(is_remembered=False):
                self._marks = replace(self._marks, chosen_s=self._since_s())
            case TrainingProgress():
                self._mark_step(event)
        self._screen.show(event)

    def timeline(self) -> Timeline:
        """The marks so far, of a run whose model is saved now."""
        return replace(self._marks, saved_s=self._since_s())

    def _mark_step(self, progress: TrainingProgress) -> None:
        if self._first_step is None:
            self._first_step = progress.step + 1
        if progress.step >= self._first_step and self._marks.first_step_s is None:
            self._marks = replace(self._marks, first_step_s=self._since_s())
        if progress.step == progress.step_count and self._marks.last_step_s is None:
            self._marks = replace(self._marks, last_step_s=self._since_s())

    def _since_s(self) -> float:
        return self._now() - self._began_at_s
