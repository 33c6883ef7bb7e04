"""The entry of the console script."""

from __future__ import annotations

import os
import sys

from autofit.process.signals import ignore_signals, note_signals

from .boundary import guarded
from .verbs import autofit


def main(arguments: list[str] | None = None) -> None:
    """Runs one command line and leaves with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    _open_what_is_closed()
    _forgive_narrow_encodings()
    note_signals()
    exit_code = guarded(lambda: _run(words), words)
    ignore_signals()
    sys.exit(exit_code)


def _run(words: list[str]) -> None:
    # Not click's own main: it turns an interrupt and an end of file into one and the same exception.
    with autofit.make_context("autofit", words) as context:
        autofit.invoke(context)


def _open_what_is_closed() -> None:
    """Leads a standard stream that was closed before we began to nowhere: else the next file would take its number."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(descriptor, "r" if descriptor == 0 else "w", closefd=False))


def _forgive_narrow_encodings() -> None:
    """Gives a terminal that cannot show `×` a question mark instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
