"""The count of the rows as it goes on, before the search or beside it."""

from __future__ import annotations

from autofit.domain.event import SurveyProgress

from .line import WIDTH, Line
from .progress import bar_line

_LABEL = "data     "


def survey_lines(progress: SurveyProgress, *, width: int = WIDTH) -> list[Line]:
    share = progress.done_rows / max(progress.row_count, 1)
    return [bar_line(_LABEL, share, survey_text(progress), width=width)]


def survey_text(progress: SurveyProgress) -> str:
    """How far it is: `12,000 of 100,000 rows read`."""
    return f"{progress.done_rows:,} of {progress.row_count:,} rows read"
