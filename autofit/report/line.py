"""One line on a screen: spans of text with the name of a style, so that every screen shows the same words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from enum import Enum

WIDTH = 80  # columns
_LABEL_COLUMNS = 9  # `machine  `
_GOES_ON = " \\"  # to a shell, at the end of a line


class Style(str, Enum):
    """The styles of text, named by meaning; the values are rich's."""

    PLAIN = ""
    QUIET = "dim"
    LABEL = "bold"
    GOOD = "green"
    BAD = "yellow"
    BROKEN = "red"
    BAR = "cyan"


Span = tuple[str, Style]
Line = tuple[Span, ...]


def plain(lines: Iterable[Line]) -> str:
    """The words of lines alone, one line each."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def labelled(
    label: str, text: str, *, width: int = WIDTH, style: Style = Style.PLAIN, columns: int = _LABEL_COLUMNS
) -> list[Line]:
    """The lines of `label    text`, wrapped under itself; spaces that align the text are kept while it fits."""
    room, text = width - columns, text.replace("\n", " ")
    rows = [text] if len(text) <= room else wrap(text, room)
    first: Line = ((label.ljust(columns), Style.LABEL), (rows[0], style))
    return [first, *(((" " * columns, Style.PLAIN), (row, style)) for row in rows[1:])]


def command_lines(words: Sequence[str], *, width: int = WIDTH, columns: int = _LABEL_COLUMNS) -> list[Line]:
    """The lines of `next     command` for the words of the next command, each quoted already: where they are more than
    one, they are still one command for a shell."""
    rows = [""]
    for word in words:
        row = f"{rows[-1]} {word}".lstrip()
        if rows[-1] and len(row) > width - columns - len(_GOES_ON):
            rows[-1] += _GOES_ON
            rows.append(word)
        else:
            rows[-1] = row
    labels = ["next", *[""] * (len(rows) - 1)]
    return [((label.ljust(columns), Style.LABEL), (row, Style.PLAIN)) for label, row in zip(labels, rows, strict=True)]


def quiet_lines(text: str, *, width: int = WIDTH) -> list[Line]:
    """The quiet lines of a text that begins with a sign, wrapped under its first word."""
    first, *rest = wrap(text, width - 2)
    return [((first, Style.QUIET),), *((("  " + row, Style.QUIET),) for row in rest)]


def wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 8), break_on_hyphens=False)


def clip(text: str, width: int) -> str:
    """The text in at most `width` columns, with an ellipsis for what is cut."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
