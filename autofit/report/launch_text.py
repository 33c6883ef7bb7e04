"""What a search in the place of `deepspeed` was for, and where its time went."""

from __future__ import annotations

from autofit.domain.line_decision import Kept
from autofit.domain.timeline import LaunchTimeline
from autofit.planning.script.training_length import length_text

from .line import WIDTH, Line, labelled
from .progress import marks_text


def launch_timeline_text(timeline: LaunchTimeline) -> str:
    """Where the time went, each mark after the one before."""
    return marks_text(
        ("looks at the script after", timeline.looked_s),
        ("choice after", timeline.chosen_s),
        ("handed over after", timeline.handed_over_s),
    )


def launch_rows(kept: Kept) -> list[tuple[str, str]]:
    """The rows `length` and `time`; none of what was kept before these were."""
    rows = [] if kept.settled is None else [("length", length_text(kept.settled.length))]
    return rows + ([] if kept.timeline is None else [("time", launch_timeline_text(kept.timeline))])


def launch_lines(kept: Kept, *, width: int = WIDTH) -> list[Line]:
    """The same as lines."""
    return [line for label, text in launch_rows(kept) for line in labelled(label, text, width=width)]
