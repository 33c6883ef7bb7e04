"""When the marks of a run pass."""

from __future__ import annotations

from collections.abc import Iterator

from autofit.app.timed_screen import TimedScreen
from autofit.domain.event import Chosen, Event, TrainingProgress, TrainingStarted
from autofit.domain.timeline import Timeline
from autofit.report.progress import timeline_text
from tests.report import simulated as sim


class Heard:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def show(self, event: Event) -> None:
        self.events.append(event)


def clock() -> Iterator[float]:
    """10 s pass between two questions."""
    return iter(range(1000, 9000, 10))


def started() -> TrainingStarted:
    return TrainingStarted(sim.CHOICE.strategy, None, "log")


def at(step: int, of: int = 3) -> TrainingProgress:
    return TrainingProgress(step, of, None, None, None, None)


def played(events: list[Event]) -> tuple[Timeline, list[Event]]:
    heard, times = Heard(), clock()
    screen = TimedScreen(heard, lambda: next(times))
    for event in events:
        screen.show(event)
    return screen.timeline(), heard.events


def test_each_mark_is_noted_once_and_everything_is_shown() -> None:
    events = [Chosen(sim.CHOICE, 1.0, 2), started(), at(0), at(1), at(2), at(3), at(3)]
    timeline, heard = played(events)
    assert timeline == Timeline(10.0, 20.0, 30.0, 40.0)
    assert heard == events


def test_a_run_that_goes_on_notes_what_happened_in_it() -> None:
    timeline, _ = played([Chosen(sim.CHOICE, 1.0, 2, is_remembered=True), started(), at(2), at(3)])
    assert timeline.chosen_s is None
    assert timeline.first_step_s is not None
    assert timeline.last_step_s is not None


def test_people_read_each_part_and_the_whole() -> None:
    text = timeline_text(Timeline(22.0, 31.5, 110.0, 114.0))
    assert text.split(" · ") == [
        "choice after 22 s",
        "first step after 9.5 s more",
        "last step after 1:18 more",
        "model saved after 4.0 s more",
        "1:54 in all",
    ]
    assert timeline_text(Timeline(saved_s=5.0)) == "model saved after 5.0 s · 5.0 s in all"
