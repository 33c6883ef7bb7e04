"""What `autofit cache` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path

from autofit.domain.ending import CALLED
from autofit.domain.units import format_bytes
from autofit.report.line import WIDTH, Line, Style, clip, labelled
from autofit.store.pruning import Counts
from autofit.store.trials_table import Entry

_OUTCOMES = {
    "Measured": "measured",
    "OutOfMemory": "out of memory",
    **{kind.__name__: words for kind, words in CALLED.items()},
}


def cache_lines(path: Path, size_bytes: int, counts: Counts, entries: Iterable[Entry]) -> list[Line]:
    """The lines that say where the store lies and what is in it; then the trials, those of one model, request and
    machine together."""
    if size_bytes == 0:
        return labelled("cache", f"nothing is remembered yet; it will lie in {path}")
    groups = groupby(entries, lambda entry: (entry.model, entry.request, entry.machine))
    return [
        *labelled("cache", f"{path}, {format_bytes(size_bytes)}"),
        *labelled("holds", str(counts)),
        *(line for heading, members in groups for line in _group_lines(heading, members)),
    ]


def _group_lines(heading: tuple[str, str, str], members: Iterable[Entry]) -> Iterator[Line]:
    yield ()
    yield ((clip(" · ".join(heading), WIDTH), Style.LABEL),)
    for entry in members:
        yield ((_entry_text(entry), Style.PLAIN),)


def _entry_text(entry: Entry) -> str:
    """The line of a trial: `  2026-11-21  zero2+lora mb4  measured  31,200 tokens/s`."""
    how = "rehearsed" if entry.is_rehearsal and entry.outcome == "Measured" else _OUTCOMES[entry.outcome]
    speed = "" if entry.tokens_per_s is None else f"{entry.tokens_per_s:,.0f} tokens/s"
    date = datetime.fromtimestamp(entry.at_s).strftime("%Y-%m-%d")
    return f"  {date}  {clip(entry.strategy, 33):33}  {how:13}  {speed:>16}"
