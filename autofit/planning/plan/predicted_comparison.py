"""A comparison by what is predicted, before anything is tried."""

from __future__ import annotations

from autofit.domain.comparison import Compared, DoesNotFit, NotCompared, Row, Standing, TaskComparison
from autofit.domain.efficiency import Rated
from autofit.domain.strategy import Strategy
from autofit.planning.setting import Setting
from autofit.planning.space.ladder_builder import estimate_of

from .baseline import predicted_cost
from .lineup import Lineup, judged, line_up


def predict_comparison(setting: Setting) -> TaskComparison:
    """The comparison of the request's task in this setting; UsageError as `line_up`."""
    return as_predicted(line_up(setting), setting)


def as_predicted(lineup: Lineup, setting: Setting) -> TaskComparison:
    """What is predicted of a lineup."""
    rows = tuple(Row(name, _standing(one, lineup.baseline, setting)) for name, one in lineup.others)
    is_absolute = estimate_of(lineup.baseline.strategy, setting).speed.is_absolute
    return TaskComparison(setting.request, lineup.baseline, rows, lineup.why, is_absolute)


def _standing(one: Strategy | NotCompared, baseline: Rated, setting: Setting) -> Standing:
    if isinstance(one, NotCompared):
        return one
    found = judged(one, setting)
    if found.estimate is None or not found.is_expected:
        return DoesNotFit(one, found.reason)
    rated = Rated(one, predicted_cost(found.estimate))
    return Compared(rated, rated.over(baseline))
