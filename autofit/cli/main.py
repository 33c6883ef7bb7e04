"""The entry of the console script."""

from __future__ import annotations

import sys

from .boundary import guarded, heed_signals
from .verbs import autofit


def main(arguments: list[str] | None = None) -> None:
    """Runs one command line and leaves with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    _forgive_narrow_encodings()
    heed_signals()
    sys.exit(guarded(lambda: _run(words), words))


def _run(words: list[str]) -> None:
    # Not click's own main: it turns an interrupt and an end of file into one and the same exception.
    with autofit.make_context("autofit", words) as context:
        autofit.invoke(context)


def _forgive_narrow_encodings() -> None:
    """A terminal that cannot show `×` gets a question mark instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
