"""A screen for commands that show their result at the end, and notes at once."""

from __future__ import annotations

from autofit.domain.event import Event, Note, Tell


class NoteScreen:
    """Tells the notes, each once, and nothing else."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told: set[str] = set()

    def show(self, event: Event) -> None:
        if isinstance(event, Note) and event.text not in self._told:
            self._told.add(event.text)
            self._tell(event.text)
