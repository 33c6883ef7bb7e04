"""One JSON object at the end, for programs."""

from __future__ import annotations

from types import TracebackType
from typing import TextIO

from autofit.domain import event as ev
from autofit.domain.codec import encode, to_json
from autofit.runs.json_file import with_schema

from .ratios import trials_body
from .view import View, fold


class JsonScreen:
    """A screen that says nothing until it is closed; an error that ends the run stands under "error"."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._view = View()

    def __enter__(self) -> JsonScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told = None if error is None else str(error) or type(error).__name__
        write_json(self._stream, {**_body(self._view), "error": told})

    def show(self, event: ev.Event) -> None:
        self._view = fold(self._view, event)


def write_json(stream: TextIO, body: dict[str, object]) -> None:
    """Writes `body` and the schema as one object."""
    stream.write(to_json(with_schema(body), indent=2) + "\n")
    stream.flush()


def _body(view: View) -> dict[str, object]:
    return {
        "machine": encode(view.hardware),
        "model": encode(view.shape),
        "request": encode(view.request),
        "data": encode(view.profile),
        "ladder": encode(view.ladder),
        "trials": trials_body(view.trials, view.choice, view.hardware),
        "choice": encode(view.choice),
        "gave_up": encode(view.give_up),
        "result": encode(view.result),
        "notes": list(view.notes),
    }
