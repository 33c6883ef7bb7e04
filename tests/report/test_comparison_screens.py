"""A comparison on the screen, and as JSON."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.comparison import (
    Compared,
    Comparison,
    DoesNotFit,
    Failed,
    NotCompared,
    Optimization,
    Row,
    TaskComparison,
)
from autofit.domain.efficiency import Cost, Rated
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.strategy import Strategy
from autofit.domain.task import Task
from autofit.report.comparison.comparison_json import comparisons_body
from autofit.report.comparison.comparison_screen import comparisons_lines
from autofit.report.line import WIDTH, plain
from tests.builders import GB, LLAMA_7B, make_hardware, make_request, make_rung

BASELINE = Rated(Strategy(make_rung(0, dtype=Dtype.FP16), 4, 1), Cost(1e-3, 10 * GB, 0.5))


def rated(zero_stage: int, token_s: float, gb: float, token_j: float | None, *, is_measured: bool = True) -> Rated:
    cost = Cost(token_s, round(gb * GB), token_j, is_measured)
    return Rated(Strategy(make_rung(zero_stage, dtype=Dtype.FP16), 4, 1), cost)


def compared(one: Rated) -> Compared:
    return Compared(one, one.over(BASELINE))


SFT = TaskComparison(
    make_request("m", 512),
    BASELINE,
    (
        Row(Optimization.ZERO_1, compared(rated(1, 0.8e-3, 5, 0.4))),
        Row(Optimization.ZERO_2, compared(rated(2, 1e-3, 4, 0.5))),
        Row(Optimization.ZERO_3, DoesNotFit(Strategy(make_rung(3), 4, 1), "out of memory in backward")),
        Row(Optimization.LORA, Failed(Strategy(make_rung(0), 4, 1), "no sign of life in forward for 10:00")),
        Row(Optimization.OFFLOAD, NotCompared("offload moves nothing off a CPU")),
    ),
)


def screen(*tasks: TaskComparison) -> str:
    return plain(comparisons_lines([Comparison(make_hardware(2), LLAMA_7B, tasks, ("A note.",))]))


def test_every_row_stands_with_its_ratios_or_the_reason_why_it_has_none() -> None:
    text = screen(SFT)

    assert "baseline  zero0+fp16 mb4 · 1,000 tokens/s · 10.0 GB · 0.5 J a token" in text
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["ZeRO-1"] == ["ZeRO-1", "zero1", "mb4", "1.25×", "2.00×", "1.25×"]
    assert rows["ZeRO-2"][-3:] == ["1.00×", "2.50×", "1.00×"]
    assert "does not fit: out of memory" in text
    assert "no sign of life" in text
    assert "offload moves nothing off a CPU" in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_each_dimension_has_its_winner_in_a_sentence() -> None:
    text = screen(SFT)

    assert "ZeRO-1 wins speed, 1.25×." in text
    assert "ZeRO-2 wins memory, 2.50×." in text
    assert "ZeRO-1 wins energy, 1.25×." in text
    assert "all tasks" not in text


def test_all_tasks_have_the_last_word() -> None:
    other = replace(SFT, request=make_request("m", 512, task=Task.DPO), rows=SFT.rows[:1])

    text = " ".join(screen(SFT, other).split())

    assert "all tasks ZeRO-1 is faster than the baseline in all tasks." in text
    assert "ZeRO-1 is leaner than the baseline in all tasks." in text
    assert text.endswith("No optimization is best in all tasks and dimensions.")


def test_an_energy_that_nothing_counts_is_not_made_up() -> None:
    base = replace(BASELINE, cost=replace(BASELINE.cost, token_j=None))
    one = rated(1, 1e-3, 5, None)
    measured = TaskComparison(SFT.request, base, (Row(Optimization.ZERO_1, Compared(one, one.over(base))),))
    predicted = replace(
        measured, baseline=replace(base, cost=replace(base.cost, is_measured=False)), why="nothing fits"
    )

    assert "Energy is not measurable here." in screen(measured)
    assert "5.00×  not measurable here" in screen(measured).replace("2.00×", "5.00×")
    assert "Nothing is faster than the baseline." in screen(measured)
    assert "zero0+fp16 mb4 (nothing fits) · ~1,000 tokens/s · ~10 GB · predicted" in screen(predicted)
    assert "Energy is not predicted." in screen(predicted)


def test_json_has_the_figures_of_the_screen() -> None:
    (machine,) = comparisons_body([Comparison(make_hardware(2), LLAMA_7B, (SFT,), ("A note.",))])["machines"]

    (task,) = machine["tasks"]
    first, *_, last = task["rows"]
    assert task["baseline"]["strategy"] == "zero0+fp16 mb4"
    assert task["baseline"]["tokens_per_s"] == 1000
    assert (first["optimization"], first["standing"], first["speed_up"]) == ("zero1", "compared", 1.25)
    assert (first["memory_up"], first["energy_up"], first["peak_device_bytes"]) == (2, 1.25, 5 * GB)
    assert [row["standing"] for row in task["rows"][2:4]] == ["does_not_fit", "failed"]
    assert last == {
        "optimization": "offload", "speed_up": None, "memory_up": None, "energy_up": None,
        "standing": "not_compared", "why": "offload moves nothing off a CPU",
    }  # fmt: skip
    assert task["best"] == {"speed": "zero1", "memory": "zero2", "energy": "zero1"}
    assert machine["best_in_all"] is None
    assert machine["good_in_all"] == {"speed": ["zero1"], "memory": ["zero1", "zero2"], "energy": ["zero1"]}
    assert machine["notes"] == ["A note."]


def test_relative_speeds_are_no_seconds() -> None:
    relative = replace(
        SFT, is_absolute=False, baseline=replace(BASELINE, cost=replace(BASELINE.cost, is_measured=False))
    )

    (machine,) = comparisons_body([Comparison(make_hardware(2), LLAMA_7B, (relative,))])["machines"]

    assert machine["tasks"][0]["baseline"]["tokens_per_s"] is None
    assert "tokens/s" not in screen(relative)
