"""The study's findings are decided by the figures."""

from __future__ import annotations

import pytest
from _study_findings import Verdict, findings

from autofit.domain.comparison import Compared, Comparison, NotCompared, Optimization, Row, TaskComparison
from autofit.domain.efficiency import Cost, Efficiency, Rated
from autofit.domain.strategy import Strategy
from autofit.domain.task import Task
from tests.builders import GB, LLAMA_7B, make_hardware, make_request, make_rung

NO_BEST, SPEED, MEMORY, WORST_ENERGY, LITTLE_ENERGY = range(5)
BASELINE = Rated(Strategy(make_rung(0), 1, 1), Cost(1.0, GB))
Ratios = tuple[float, float, float | None]
ZERO_1, CHECKPOINTING, LORA, OFFLOAD = (
    Optimization.ZERO_1, Optimization.CHECKPOINTING, Optimization.LORA, Optimization.OFFLOAD,
)  # fmt: skip
LIKE_THE_STUDY: dict[Optimization, Ratios] = {
    ZERO_1: (1.2, 1.5, 1.05),
    CHECKPOINTING: (0.8, 2.0, 0.8),
    LORA: (1.1, 1.8, 1.0),
    OFFLOAD: (9.0, 9.0, 9.0),
}


def compared(task: Task, changes: dict[Optimization, Ratios]) -> TaskComparison:
    rows = [Row(one, Compared(BASELINE, Efficiency(*ratios))) for one, ratios in {**LIKE_THE_STUDY, **changes}.items()]
    return TaskComparison(make_request(task=task), BASELINE, tuple(rows))


def verdicts(*tasks: TaskComparison) -> list[Verdict]:
    return [one.verdict for one in findings([Comparison(make_hardware(2), LLAMA_7B, tasks)])]


def both(**changes: Ratios) -> list[Verdict]:
    by_name = {Optimization(name): ratios for name, ratios in changes.items()}
    return verdicts(compared(Task.SFT, by_name), compared(Task.REWARD, by_name))


def test_figures_like_the_studys_agree_with_all_of_it() -> None:
    assert both() == [Verdict.AGREES] * 5


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"lora": (1.3, 2.5, 1.06)}, NO_BEST),
        ({"zero1": (0.99, 1.5, 1.05)}, SPEED),
        ({"checkpointing": (0.8, 1.0, 0.8)}, MEMORY),
        ({"lora": (1.1, 1.8, 0.7)}, WORST_ENERGY),
        ({"zero1": (1.2, 1.5, 1.3)}, LITTLE_ENERGY),
    ],
)
def test_one_figure_that_is_otherwise_disagrees(changes: dict[str, Ratios], finding: int) -> None:
    found = both(**changes)

    assert found[finding] is Verdict.DISAGREES
    assert found.count(Verdict.DISAGREES) == 1


def test_what_was_not_measured_is_untold() -> None:
    unmeasured = {one: (*ratios[:2], None) for one, ratios in LIKE_THE_STUDY.items()}

    found = verdicts(compared(Task.SFT, unmeasured), compared(Task.DPO, unmeasured))  # no reward model

    assert found == [Verdict.AGREES, Verdict.AGREES, Verdict.UNTOLD, Verdict.UNTOLD, Verdict.UNTOLD]
    assert verdicts() == [Verdict.UNTOLD] * 5
    assert verdicts(compared(Task.SFT, {}))[NO_BEST] is Verdict.UNTOLD


def test_a_row_without_a_figure_keeps_its_finding_open() -> None:
    whole = compared(Task.SFT, {})
    rows = (Row(ZERO_1, NotCompared("left out")), *whole.rows[1:])
    without = TaskComparison(whole.request, BASELINE, rows)

    assert verdicts(whole, without)[SPEED] is Verdict.UNTOLD
