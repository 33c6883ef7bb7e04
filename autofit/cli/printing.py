"""What verbs print that show their result at the end: lines in colours, and a sign of life before."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from autofit.process.best_effort_stream import BestEffortStream

if TYPE_CHECKING:
    from autofit.report.line import Line

_WIDEST = 100  # columns: longer lines are harder to read


def waiting(what: str, *, is_quiet: bool) -> Any:
    """Shows a sign of life on a terminal: the first plan of a model takes seconds, and so does a rehearsal."""
    from contextlib import nullcontext

    if is_quiet or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(file=cast(TextIO, BestEffortStream(sys.stderr))).status(what)


def screen_width() -> int:
    """The columns of the terminal, within what reads well; of a file the usual ones."""
    import shutil

    from autofit.report.line import WIDTH

    return max(WIDTH, min(shutil.get_terminal_size().columns, _WIDEST)) if sys.stdout.isatty() else WIDTH


def print_lines(lines: list[Line]) -> None:
    """Prints the lines, in colours on a terminal."""
    from autofit.report.line import plain

    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        click.echo(plain(lines))
        return
    from rich.console import Console
    from rich.text import Text

    rows = [Text.assemble(*((text, style.value) for text, style in line)) for line in lines]
    Console(highlight=False).print(Text("\n", no_wrap=True, overflow="ellipsis").join(rows))
