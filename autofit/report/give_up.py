"""What is said when nothing fits: the closest rung, what it misses, and what would make it fit."""

from __future__ import annotations

from autofit.domain.knobs.method import METHOD
from autofit.domain.trial import GiveUp
from autofit.domain.units import format_bytes

from .line import WIDTH, Line, Style, labelled, wrap
from .view import View

_LABEL_COLUMNS = 10


def give_up_lines(view: View, action: GiveUp, *, width: int = WIDTH) -> list[Line]:
    lines: list[Line] = [((row, Style.BAD),) for row in wrap(_headline(view), width)]
    lines += labelled("why", action.why, width=width, columns=_LABEL_COLUMNS) if action.why else []
    if action.closest is not None:
        lines += labelled("closest", _closest(view, action), width=width, columns=_LABEL_COLUMNS)
    for label, text in zip(["would fit"] + [""] * len(action.would_fit), action.would_fit, strict=False):
        lines += labelled(label, text, width=width, columns=_LABEL_COLUMNS)
    return lines


def _headline(view: View) -> str:
    what = [view.shape.name if view.shape is not None else "this model"]
    if view.request is not None:
        method = view.request.pins.of(METHOD)
        what += [] if method is None else [METHOD.of(method).text]
        what.append(f"{view.request.sequence_length:,} tokens")
    return f"Nothing on this machine fits {', '.join(what)}."


def _closest(view: View, action: GiveUp) -> str:
    if action.needs_bytes is None:
        return str(action.closest)
    has = "" if action.has_bytes is None else f" of {format_bytes(action.has_bytes)} per {view.device_word}"
    return f"{action.closest} needs {format_bytes(action.needs_bytes)}{has}"
