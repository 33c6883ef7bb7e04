"""report.html holds the facts and runs nothing."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

from autofit.domain.outcome import Crashed, Phase
from autofit.domain.trial import Trial
from autofit.domain.workload import Learned, RowCounts
from autofit.report.html import report_html
from autofit.runs.run_folder import RunRecord
from tests.report import simulated as sim

RECORD = RunRecord(sim.REQUEST, sim.HARDWARE, sim.TRIALS, sim.CHOICE, sim.RESULT)


class Tags(HTMLParser):
    """Checks that what is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags_of(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_the_page_tells_the_whole_decision() -> None:
    page = report_html(RECORD)
    for fact in ("Llama-2-13b-hf", "8 × A100-SXM4-80GB", "zero1+lora mb4", "31,200", "1.2 GB short", "bound 29,800",
                 "--method full", "loss 2.413 → 1.183", "model/, beside this page"):  # fmt: skip
        assert fact in page


def test_what_a_choice_gives_up_is_told_beside_the_plain_rung() -> None:
    page = report_html(replace(RECORD, choice=replace(sim.CHOICE, strategy=sim.LOMO)))
    assert "<p>gives up: lomo: nothing adapts the step of a parameter: plain SGD, not AdamW</p>" in page
    assert "<p>plain: --optimizer adamw: zero3+gc mb4 · 9,100 tokens/s · 53.0 GB</p>" in page


def test_rungs_that_were_not_probed_for_one_reason_are_one_row_that_opens() -> None:
    page = report_html(RECORD)
    assert page.count("<details>") == 1
    assert "cannot beat 31,200 (bound 2,900–29,800)" in page
    assert all(str(rest.rung) in page and rest.reason in page for rest in sim.CHOICE.unprobed)


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    page = report_html(RECORD)
    tags = tags_of(page)
    assert tags.open == []
    assert not tags.seen & {"script", "link", "img"}
    assert "http" not in page


def test_text_is_escaped() -> None:
    crashed = Trial(sim.strategy("zero1", 1), sim.estimate(1.0), Crashed(0, Phase.BUILD, "<script>alert(1)</script>"))
    page = report_html(replace(RECORD, trials=(crashed,), request=replace(sim.REQUEST, model="<b>&")))
    assert "script" not in tags_of(page).seen
    assert "&lt;b&gt;&amp;" in page


def test_a_run_that_has_only_begun() -> None:
    page = report_html(RunRecord(sim.REQUEST, None, (), None, None))
    assert tags_of(page).open == []
    assert "Choice" not in page


def test_what_is_learned_and_lost_of_the_data_is_told() -> None:
    counts = RowCounts(400, dropped=22)
    profile = replace(sim.PROFILE, learned=Learned.ANSWERS, rows=counts)
    page = report_html(replace(RECORD, profile=profile))
    assert "the answers, not their prompts" in page
    assert "400 in all · 22 dropped" in page
    assert "in all" not in report_html(RECORD)
