"""What every declaration of a knob keeps to, so that all that is driven by them holds for a new one, too."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.knob import Knob, Value
from autofit.domain.knobs.offload import OFFLOAD, Offload
from autofit.domain.strategy import KNOBS
from tests.builders import make_rung

knobs = pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)


@knobs
def test_each_value_stands_once_in_each_order(knob: Knob[Any]) -> None:
    values = [known.value for known in knob.values]
    assert len(values) == len(set(values)) > 0
    if knob.from_least_memory:
        assert sorted(map(str, knob.from_least_memory)) == sorted(map(str, values))


@knobs
def test_the_values_of_a_flag_are_told_apart(knob: Knob[Any]) -> None:
    assert knob.values
    assert {knob.read(known.word) for known in knob.values} == {known.value for known in knob.values}
    assert len({known.text for known in knob.values}) == len(knob.values)
    if knob.flag is not None:
        assert f"--{knob.name.replace('_', '-')}" in knob.flag.names
        assert knob.flag.help.endswith(".")


@knobs
def test_what_a_value_needs_is_a_value_of_another_knob(knob: Knob[Any]) -> None:
    for known in knob.values:
        for need in known.needs:
            (other,) = [one for one in KNOBS if one.name == need.knob]
            assert other is not knob
            assert all(other.of(value) for value in need.values)


@knobs
def test_a_value_that_gives_something_up_says_what_and_changes_the_training(knob: Knob[Any]) -> None:
    for known in knob.values:
        assert not known.gives_up or (knob.changes_training and known.syllable), known
        assert known.gives_up or known.last_resort is None, known
    assert not knob.values[0].gives_up


def test_no_two_values_have_one_syllable() -> None:
    counts = Counter(known.syllable for knob in KNOBS for known in knob.values if known.syllable)
    assert counts
    assert max(counts.values()) == 1


def test_no_two_rungs_have_one_name() -> None:
    plain = make_rung(2)
    turned = [
        replace(plain, **{knob.name: known.value})
        for knob in KNOBS
        for known in knob.values
        if known.value != getattr(plain, knob.name)
    ]
    names = [str(rung) for rung in (plain, *turned)]
    assert len(turned) > len(KNOBS)
    assert len(set(names)) == len(names)


def test_what_has_no_order_needs_less_than_nothing_else() -> None:
    """An optimizer that ran out of memory says nothing of one with smaller states."""
    knob = Knob("optimizer", (Value("adamw", "adamw", "AdamW"), Value("adamw_8bit", "adamw_8bit", "8-bit AdamW")))
    assert knob.needs_no_less("adamw", "adamw")
    assert not knob.needs_no_less("adamw", "adamw_8bit")
    assert not knob.needs_no_less("adamw_8bit", "adamw")


def test_an_order_by_memory_is_kept_to() -> None:
    (offload,) = [knob for knob in KNOBS if knob.name == "offload"]
    assert offload.needs_no_less(Offload.NONE, Offload.ALL)
    assert not offload.needs_no_less(Offload.ALL, Offload.OPTIMIZER)
    assert offload.does_no_more(Offload.NONE, Offload.ALL)
    assert not offload.does_no_more(Offload.ALL, Offload.NONE)


def test_a_name_tells_the_dtype_where_it_is_not_the_usual_one() -> None:
    assert str(make_rung(2, dtype=Dtype.FP16)) == "zero2+fp16"
    assert str(make_rung(2, dtype=Dtype.BF16)) == "zero2"


@knobs
def test_a_word_that_is_refused_is_none_of_the_values_and_has_a_reason(knob: Knob[Any]) -> None:
    for word, why in knob.refused:
        assert word not in {known.word for known in knob.values}
        with pytest.raises(ValueError, match=f"'{word}' is not offered: {why[:20]}"):
            knob.read(word)


def test_nvme_is_refused_with_what_to_take() -> None:
    with pytest.raises(ValueError, match=r"checkpoints of it restore neither .*; use all or partial$"):
        OFFLOAD.read("nvme")
