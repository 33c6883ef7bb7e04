"""SpeedUp, MemoryUp and EnergyUp on the screens, in JSON and on the page."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from autofit.domain import event as ev
from autofit.domain.efficiency import Rated
from autofit.domain.energy import Energy
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Measured
from autofit.domain.trial import Choice, Trial
from autofit.planning.plan.baseline import measured_cost
from autofit.report.html import report_html
from autofit.report.json_screen import JsonScreen
from autofit.report.ladder.ladder_table import table_lines
from autofit.report.line import plain
from autofit.report.ratios import choice_ratios_text
from autofit.report.view import View
from autofit.runs.run_folder import RunRecord
from tests.report import simulated as sim


def energy_of(one: Trial, token_j: float) -> Trial:
    assert isinstance(one.outcome, Measured)
    return replace(one, outcome=replace(one.outcome, energy=Energy(token_j, None)))


BASELINE = energy_of(sim.TRIALS[0], 0.3)  # 40.2 GB, 22,100 tokens/s
LEAN = energy_of(sim.TRIALS[2], 0.1)  # 41.0 GB, 24,900 tokens/s
assert isinstance(BASELINE.outcome, Measured)
MEASURED = Rated(BASELINE.strategy, measured_cost(BASELINE.outcome, DeviceKind.CUDA))
PREDICTED = replace(MEASURED, cost=replace(MEASURED.cost, token_j=None, is_measured=False), fits=False)


def view(baseline: Rated | None) -> View:
    choice = replace(sim.CHOICE, baseline=baseline)
    trials = (BASELINE, sim.TRIALS[1], LEAN, sim.TRIALS[3])
    return View(hardware=sim.HARDWARE, request=sim.REQUEST, ladder=sim.LADDER, trials=trials, choice=choice)


def table(baseline: Rated | None, width: int) -> list[str]:
    return plain(table_lines(view(baseline), width=width)).splitlines()


def row(lines: list[str], name: str) -> str:
    return next(line for line in lines if line.startswith(name + " "))


def test_a_wide_table_has_them() -> None:
    lines = table(MEASURED, 120)

    assert lines[0].endswith("tokens/s   SpeedUp  MemoryUp  EnergyUp")
    assert row(lines, "zero2+lora+gc").split()[-4:] == ["1.13×", "0.98×", "3.00×", "measured"]
    assert row(lines, "zero1+lora").split()[-3:] == ["1.41×", "0.54×", "chosen"]
    assert row(lines, "zero3+gc").split()[-4:-2] == ["~1.09×", "~0.76×"]
    assert lines[-1] == "× SpeedUp, MemoryUp, EnergyUp: how many times less than zero1+lora mb1"
    assert max(map(len, lines)) <= 120


def test_of_what_is_predicted_they_are_marked_and_have_no_energy() -> None:
    lines = table(PREDICTED, 120)

    assert lines[0].endswith("tokens/s   SpeedUp  MemoryUp")
    assert row(lines, "zero2+lora+gc").split()[-3:] == ["~1.13×", "~0.98×", "measured"]
    assert lines[-1].endswith("how many times less than zero1+lora mb1 (predicted, it does not fit)")


@pytest.mark.parametrize(("baseline", "width"), [(MEASURED, 100), (None, 120)])
def test_a_table_that_is_narrow_or_of_an_older_run_has_none(baseline: Rated | None, width: int) -> None:
    assert "Up" not in "".join(table(baseline, width))


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (replace(sim.CHOICE, baseline=MEASURED), "SpeedUp 1.41× · MemoryUp 0.54× of zero1+lora mb1"),
        (
            replace(sim.CHOICE, baseline=replace(PREDICTED, fits=True)),
            "SpeedUp ~1.41× · MemoryUp ~0.54× of zero1+lora mb1 (predicted)",
        ),
        (
            replace(sim.CHOICE, strategy=MEASURED.strategy, baseline=MEASURED),
            "1: it is itself what they are of",
        ),
        (sim.CHOICE, ""),
    ],
)
def test_what_was_chosen_has_them_in_a_line(choice: Choice, text: str) -> None:
    assert choice_ratios_text(choice, sim.HARDWARE) == text


def test_programs_find_them_with_each_trial() -> None:
    stream = io.StringIO()
    with JsonScreen(stream) as screen:
        for event in [ev.MachineSeen(sim.HARDWARE), ev.LadderBuilt(sim.LADDER), ev.TrialEnded(BASELINE),
                      ev.TrialEnded(LEAN), ev.TrialEnded(sim.TRIALS[3]),
                      ev.Chosen(replace(sim.CHOICE, baseline=MEASURED), 4.0, 3)]:  # fmt: skip
            screen.show(event)

    first, lean, failed = (trial["efficiency"] for trial in json.loads(stream.getvalue())["trials"])
    assert (first["speed_up"], first["memory_up"], first["energy_up"]) == (1.0, 1.0, 1.0)
    assert lean["energy_up"] == pytest.approx(3.0)
    assert lean["product"] == pytest.approx(lean["speed_up"] * lean["memory_up"] * 3)
    assert (lean["baseline"], lean["is_measured"]) == ("zero1+lora mb1", True)
    assert failed is None


def test_the_page_has_them() -> None:
    record = RunRecord(sim.REQUEST, sim.HARDWARE, (BASELINE, LEAN), replace(sim.CHOICE, baseline=MEASURED), None)

    page = report_html(record)

    assert "<th>SpeedUp</th><th>MemoryUp</th><th>EnergyUp</th>" in page
    assert '<td class="n">1.13×</td><td class="n">0.98×</td><td class="n">3.00×</td>' in page
    assert "<p>ratios: SpeedUp 1.41× · MemoryUp 0.54× of zero1+lora mb1</p>" in page
    assert "SpeedUp" not in report_html(replace(record, choice=sim.CHOICE))
