"""Which layers run for all, and what they say of the others."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from autofit.domain.outcome import Phase
from autofit.domain.trace import Work
from autofit.worker.trace.depth import choose_depth
from autofit.worker.trace.full_depth import NotRepeatedError, deepen
from autofit.worker.trace.section import Section, extend


@pytest.mark.parametrize(
    ("marks", "left_out"),
    [
        ("aaaaaaaa", "aaaaaa"),
        ("ddd" + "m" * 9 + "e", "m" * 7),
        ("d" + "mma" * 5 + "mm", "mma" * 3),
        ("mmmmma" * 4, "mmmmma" * 2),
        ("ssssf" * 3 + "tttttttt", "t" * 6),
        ("abcdef", ""),
        ("ab", ""),
        ("", ""),
    ],
)
def test_periods_are_left_out_wherever_they_stand(marks: str, left_out: str) -> None:
    depth = choose_depth(marks)
    assert "".join(marks[index] for index in depth.left_out_layers()) == left_out


def test_a_layer_that_is_left_out_has_its_like_in_both_periods_that_run() -> None:
    chosen = random.Random(4)
    for _ in range(200):
        period = "".join(chosen.choices("ab", k=chosen.randint(1, 4)))
        marks = "".join(chosen.choices("abc", k=chosen.randint(0, 4))) + period * chosen.randint(1, 8) + "z"
        depth = choose_depth(marks)
        for index in depth.left_out_layers():
            for turn in range(2):
                assert marks[depth.start + turn * depth.period + (index - depth.start) % depth.period] == marks[index]


def test_layers_that_compute_more_from_period_to_period_are_not_repeated() -> None:
    depth = choose_depth("aaaaaa")
    outside = Section(Phase.FORWARD, None, [0])
    growing = [Section(Phase.FORWARD, index, [10 * index], work=Work(index)) for index in (0, 1)]
    with pytest.raises(NotRepeatedError):
        deepen([outside, *growing, outside], None, depth)
    alike = [replace(section, work=Work(1)) for section in growing]
    assert len(deepen([outside, *alike, outside], None, depth)) == 8


def loss(layer_count: int) -> Section:
    """Of a loss that holds 10 more for each layer, works on tiles of 300 first, and then goes from layer to layer with
    25 in hand, keeping 7 of them to its end; the first time takes more."""
    held = 100 + 10 * layer_count
    steps = [held + 7 * layer + extra for layer in range(layer_count) for extra in (25, 7)]
    sums = [held + 7 * layer_count + extra for extra in (2, 3)]
    levels = [held, held + 300, held, held + 26, *steps, *sums, held + 1, held + 2]
    return Section(Phase.FORWARD, None, levels, work=Work(5 * layer_count))


@pytest.mark.parametrize("count", [4, 20, 200])
def test_a_loss_that_goes_from_layer_to_layer_overtakes_its_tiles(count: int) -> None:
    told = extend(loss(3), loss(2), count - 3)
    assert told.peak_bytes == loss(count).peak_bytes
    assert told.work == loss(count).work


def test_what_differs_in_the_middle_of_a_section_grows_on_a_line() -> None:
    def section(count: int) -> Section:
        return Section(Phase.FORWARD, None, [10, 90, 20 + 30 * count, 20])

    assert extend(section(3), section(2), 5).peak_bytes == section(8).peak_bytes
