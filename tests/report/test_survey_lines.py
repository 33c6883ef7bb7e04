"""How far the count of the rows is, before a search and beside it."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain import event as ev
from autofit.domain.event import SurveyProgress
from autofit.report.view import View, fold
from tests.report import simulated as sim
from tests.report.test_screens import screen_text

FORETOLD = replace(sim.PROFILE, longest_tokens=2048, is_foreseen=True)


def test_its_bar_moves_alone_and_under_the_table() -> None:
    alone = screen_text([SurveyProgress(2_000, 8_412)], is_closed=False).rstrip().splitlines()
    assert alone[-1].startswith("data     ━")
    assert alone[-1].endswith(" 2,000 of 8,412 rows read")
    beside = screen_text([*sim.searching(), SurveyProgress(6_000, 8_412)], is_closed=False).rstrip().splitlines()
    assert beside[-1].endswith(" 6,000 of 8,412 rows read")
    assert any(line.startswith("ladder ") for line in beside)


def test_nothing_of_it_moves_once_the_rows_are_counted() -> None:
    told = [SurveyProgress(2_000, 8_412), *sim.beginning()]
    assert "rows read" not in screen_text(told, is_closed=False)


def folded(*events: ev.Event) -> View:
    view = View()
    for event in events:
        view = fold(view, event)
    return view


def test_a_search_that_begins_anew_shows_its_own_trials_alone() -> None:
    searched = [one for one in sim.searching() if not isinstance(one, ev.DataRead)]
    before = folded(*searched[:2], ev.DataRead(sim.REQUEST, FORETOLD), *searched[2:])
    assert before.trials
    assert fold(before, ev.DataRead(sim.REQUEST, sim.PROFILE)).trials == before.trials  # as wide as it was taken to be
    assert fold(before, ev.DataRead(sim.REQUEST, replace(sim.PROFILE, longest_tokens=900))).trials == ()
