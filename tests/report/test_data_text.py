"""What the screen says of the data: how much there is, what is learned of it, and what is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.workload import Learned, RowCounts
from autofit.report.data_text import data_lines, rows_text
from autofit.report.header import request_text
from autofit.report.line import plain
from tests.builders import make_request

from .simulated import PROFILE


@pytest.mark.parametrize("learned", Learned)
def test_every_way_to_learn_has_its_words(learned: Learned) -> None:
    line, *_ = data_lines(replace(PROFILE, learned=learned))
    assert plain([line]).split()[0] == "learns"


def test_rows_of_each_task_have_their_name() -> None:
    names = (Learned.TEXTS, Learned.PREFERENCES, Learned.JUDGEMENTS, Learned.REWARDS)
    texts = [request_text(make_request(), replace(PROFILE, learned=learned)) for learned in names]
    heads = [text.split(" · ")[0] for text in texts]
    assert heads == ["8,412 conversations", "8,412 preferences", "8,412 judged answers", "8,412 prompts"]


def test_rows_that_are_too_long_are_counted_apart_from_those_that_are_cut() -> None:
    assert rows_text(RowCounts(100, too_long=3)) == "100 in all · 3 left out: longer than --seq"
