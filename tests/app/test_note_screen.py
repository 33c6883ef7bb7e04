"""Notes are told at once, and each once."""

from __future__ import annotations

from autofit.app.note_screen import NoteScreen
from autofit.domain.event import MachineSeen, Note
from tests.builders import make_hardware


def test_notes_alone_are_told_and_each_once() -> None:
    told: list[str] = []
    screen = NoteScreen(told.append)

    for event in (Note("one"), MachineSeen(make_hardware()), Note("two"), Note("one")):
        screen.show(event)

    assert told == ["one", "two"]
