"""How a download is told of, beside a search and after it."""

from __future__ import annotations

import io
import json

import pytest

from autofit.domain import event as ev
from autofit.report.download import Downloading, download_text
from autofit.report.json_screen import JsonScreen
from tests.builders import GB
from tests.report import simulated as sim
from tests.report.test_screens import plain_lines, screen_text

MODEL = "meta-llama/Llama-2-13b-hf"
STARTED = ev.DownloadStarted(MODEL, "c0ffee0" + "1" * 33, 26 * GB)
ENDED = ev.DownloadEnded(MODEL, 26 * GB, 251.0)


def at(size_gb: float) -> ev.DownloadProgress:
    return ev.DownloadProgress(int(size_gb * GB), 26 * GB)


def test_its_bar_stands_under_the_table_while_the_search_runs() -> None:
    events = [STARTED, at(1.0), *sim.searching(), at(4.0)]
    lines = screen_text(events, is_closed=False).rstrip().splitlines()
    assert lines[0] == f"weights  26.0 GB of {MODEL} (commit c0ffee0) come from the hub"
    assert lines[-1].startswith("weights  ━━━")
    assert lines[-1].endswith(" 4.0 of 26.0 GB · 5:30 left")  # 3 GB came in 45 s
    assert sum(line.startswith("weights") for line in lines) == 2
    assert any(line.startswith("ladder ") for line in lines)


def test_it_moves_alone_before_the_table_and_after_the_choice() -> None:
    before = screen_text([STARTED, at(13.0)], is_closed=False).rstrip().splitlines()
    assert before[-1].startswith("weights  ━")
    chosen = sim.whole()[: [type(event) for event in sim.whole()].index(ev.Chosen) + 1]
    after = screen_text([STARTED, *chosen, at(13.0)], is_closed=False, lines=40).rstrip().splitlines()
    assert sum(line.startswith("ladder ") for line in after) == 1
    assert after[-1].endswith("13.0 of 26.0 GB")


def test_nothing_of_it_moves_once_it_is_here() -> None:
    events = [STARTED, at(20.0), *sim.beginning(), at(26.0), ENDED]
    lines = screen_text(events, is_closed=False).rstrip().splitlines()
    assert f"weights  26.0 GB of {MODEL} are here, after 4:11" in lines
    assert not any("━" in line and line.startswith("weights") for line in lines)
    text = screen_text([STARTED, at(26.0), ENDED, *sim.whole()], is_closed=True, lines=60)
    assert "weights  ━" not in text
    assert "trained" in text


def test_an_interrupted_one_leaves_where_it_stands() -> None:
    lines = screen_text([STARTED, *sim.searching(), at(4.0)], is_closed=True).rstrip().splitlines()
    assert lines[-1].endswith("4.0 of 26.0 GB")
    given_up = screen_text([STARTED, *sim.beginning(), at(4.0), ev.GaveUp(sim.GIVE_UP), at(5.0)], is_closed=True)
    assert "weights  ━" not in given_up


@pytest.mark.parametrize(
    ("done_gb", "text"),
    [(0.0, "0 B of 26.0 GB"), (0.9, "900 MB of 26.0 GB"), (12.1, "12.1 of 26.0 GB")],
)
def test_what_is_here_of_it(done_gb: float, text: str) -> None:
    assert download_text(Downloading(26 * GB, int(done_gb * GB))) == text


def test_what_an_earlier_command_fetched_makes_it_no_faster() -> None:
    download = Downloading(26 * GB).after(at(20.0), 100.0).after(at(21.0), 110.0)
    assert download.left_s == 50.0
    assert Downloading(26 * GB).after(at(20.0), 100.0).after(at(20.5), 101.0).left_s is None


def test_plain_lines_speak_once_a_minute() -> None:
    events = [STARTED, *(at(size / 10) for size in range(261)), ENDED]
    lines = plain_lines(events, 3.0)
    assert lines[0] == f"weights  26.0 GB of {MODEL} (commit c0ffee0) come from the hub meanwhile"
    assert lines[-1] == f"weights  26.0 GB of {MODEL} are here, after 4:11"
    assert lines[2] == "weights  2.0 of 26.0 GB · 12:00 left"
    assert len(lines) == 2 + 14


def test_a_program_hears_nothing_of_it() -> None:
    stream = io.StringIO()
    with JsonScreen(stream) as screen:
        for event in (STARTED, at(13.0), ENDED):
            screen.show(event)
    assert MODEL not in stream.getvalue()
    assert json.loads(stream.getvalue())["notes"] == []
