"""A screen for commands that show their result at the end, and notes at once."""

from __future__ import annotations

from autofit.domain.event import Event, Note, Tell


class NoteScreen:
    """Tells the notes, and nothing else."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def show(self, event: Event) -> None:
        if isinstance(event, Note):
            self._tell(event.text)
