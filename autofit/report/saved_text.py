"""The checkpoints of a run."""

from __future__ import annotations

from autofit.process.saved_steps import SavedSteps

from .line import WIDTH, Line, labelled


def saved_lines(saved: SavedSteps, *, width: int = WIDTH) -> list[Line]:
    """Which are there, the last and the best told apart, and which are passed over; none where nothing was saved."""
    lines = labelled("saved", _text(saved), width=width) if saved.whole else []
    for text in saved.torn:
        lines += labelled("" if lines else "saved", text, width=width)
    return lines


def _text(saved: SavedSteps) -> str:
    """`3 checkpoints · the last of step 120 · the best of step 80`."""
    count = f"{len(saved.whole):,} checkpoint{'s' if len(saved.whole) > 1 else ''}"
    best = [] if saved.best is None else [f"the best of step {saved.best:,}"]
    return " · ".join([count, f"the last of step {saved.last:,}", *best])
