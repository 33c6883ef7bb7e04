"""What `autofit cache` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path

from autofit.domain.units import format_bytes
from autofit.report.line import WIDTH, Line, Style, clip, labelled
from autofit.store.pruning import Counts
from autofit.store.trials_table import TrialSummary

_OUTCOMES = {
    "Measured": "measured",
    "OutOfMemory": "out of memory",
    "Unsupported": "not supported",
    "TimedOut": "timed out",
    "Crashed": "crashed",
}


def cache_lines(path: Path, size_bytes: int, counts: Counts, summaries: Iterable[TrialSummary]) -> list[Line]:
    """The lines that say where the store lies and what is in it; then the trials, those of one model, request and
    machine together."""
    if size_bytes == 0:
        return labelled("cache", f"nothing is remembered yet; it will lie in {path}")
    groups = groupby(summaries, lambda summary: (summary.model, summary.request, summary.machine))
    return [
        *labelled("cache", f"{path}, {format_bytes(size_bytes)}"),
        *labelled("holds", str(counts)),
        *(line for heading, members in groups for line in _group_lines(heading, members)),
    ]


def _group_lines(heading: tuple[str, str, str], members: Iterable[TrialSummary]) -> Iterator[Line]:
    yield ()
    yield ((clip(" · ".join(heading), WIDTH), Style.LABEL),)
    for summary in members:
        yield ((_summary_text(summary), Style.PLAIN),)


def _summary_text(summary: TrialSummary) -> str:
    """The line of a trial: ` 2026-11-21 zero2+lora mb4 measured 31,200 tokens/s`."""
    how = "rehearsed" if summary.is_rehearsal and summary.outcome == "Measured" else _OUTCOMES[summary.outcome]
    speed = "" if summary.tokens_per_s is None else f"{summary.tokens_per_s:,.0f} tokens/s"
    date = datetime.fromtimestamp(summary.at_s).strftime("%Y-%m-%d")
    return f"  {date}  {clip(summary.strategy, 33):33}  {how:13}  {speed:>16}"
