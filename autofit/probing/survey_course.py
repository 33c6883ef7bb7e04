"""What has been heard of a survey by now: it goes on beside whatever else the agent is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autofit.domain.errors import UsageError
from autofit.domain.workload import DataProfile
from autofit.probing.protocol import Foreseen, RowsMade, Surveyed, SurveyNews, SurveyRefused

OnRowsMade = Callable[[RowsMade], None]


@dataclass
class SurveyCourse:
    """`foreseen` is what a sample foretold, `profile` that of all rows; None where there is none yet."""

    on_rows: OnRowsMade
    foreseen: DataProfile | None = None
    profile: DataProfile | None = None

    def hear(self, news: SurveyNews) -> None:
        """Takes what is new; UsageError when something must be changed first, whatever is done meanwhile."""
        if isinstance(news, SurveyRefused):
            raise UsageError(news.message)
        if isinstance(news, RowsMade):
            self.on_rows(news)
        elif isinstance(news, Foreseen):
            self.foreseen = news.profile
        else:
            assert isinstance(news, Surveyed)
            self.profile = news.profile
