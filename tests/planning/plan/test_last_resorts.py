"""Last resorts: named where nothing plain fits, taken in their order where all of them are allowed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from autofit.domain.knobs.last_resort import LastResort
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.plan import Plan
from autofit.planning.plan.candidates import make_plan
from autofit.planning.plan.last_resorts import last_resorts, next_resort
from autofit.planning.setting import Setting
from autofit.planning.space.axes import settle
from tests.planning import simulated as sim
from tests.planning.lean import lean

__all__ = ["lean"]
pytestmark = pytest.mark.usefixtures("lean")

FULL, LORA = (Pins(method=method, offload=Offload.NONE) for method in Method)


@cache
def scene(memory_gb: int, pins: Pins = FULL, allow: tuple[str, ...] = ()) -> Setting:
    """A 7B model on one device without offload: AdamW takes 113 GB at the least, with 8-bit
    moments 86, LOMO 32; adapters take 15 GB, and 5.6 with weights in NF4."""
    made = replace(
        sim.setting(sim.hardware(1, memory_gb), pins=pins, tokens=512),
        installed=frozenset({"bitsandbytes", "torchao"}),
        traces=sim.traced(sim.setting(sim.hardware(1, 1000), tokens=512)).traces,
    )
    return replace(made, request=replace(made.request, allow=allow))


@cache
def plan(memory_gb: int, pins: Pins = FULL, allow: tuple[str, ...] = ()) -> Plan:
    return make_plan(scene(memory_gb, pins, allow))


def names(made: Plan) -> list[str]:
    return [one.flag.removeprefix("--allow ") for one in made.resorts]


def test_where_nothing_plain_fits_each_last_resort_is_named_in_order_and_the_fastest_first() -> None:
    made = plan(108)
    assert made.choice is None
    assert [one.order for one in made.resorts] == sorted(one.order for one in made.resorts)
    assert set(names(made)[:3]) == {"adamw_8bit", "adamw_8bit_bf16", "adamw_4bit_bf16"}
    assert names(made)[3:] == ["lomo", "adalomo"], "AdaLomo is slower here"
    assert all(one.gives_up for one in made.resorts)
    assert all(one.estimate.memory.peak_bytes < 108 * sim.GB for one in made.resorts)


def test_what_would_not_fit_is_not_named() -> None:
    assert names(plan(40)) == ["lomo", "adalomo"]
    assert names(plan(24)) == []


def test_nothing_is_named_where_all_parameters_fit() -> None:
    assert plan(140).resorts == ()


def test_where_adapters_fit_the_ways_to_all_parameters_are_named() -> None:
    made = plan(40, Pins(offload=Offload.NONE))
    assert made.choice is not None
    assert made.choice.strategy.rung.method is Method.LORA
    assert {one.strategy.rung.method for one in made.resorts} == {Method.FULL}


def test_a_quantised_base_is_the_last_resort_of_adapters() -> None:
    made = plan(10, LORA)
    assert made.choice is None
    assert set(names(made)) == {"int8", "nf4"}
    assert {one.order for one in made.resorts} == {LastResort.QUANTIZED_BASE}


def test_what_is_allowed_competes_and_the_plain_one_stands_beside() -> None:
    made = plan(108, allow=("adamw_8bit",))
    assert made.choice is not None
    assert made.choice.strategy.rung.optimizer is Optimizer.ADAMW_8BIT
    assert made.plain is None
    made = plan(140, allow=("adamw_8bit", "lomo"))
    assert made.choice is not None
    assert made.plain is not None
    assert made.plain.strategy.rung.optimizer is Optimizer.ADAMW


def test_nothing_that_changes_the_training_is_picked_unasked() -> None:
    for memory_gb in (140, 108, 40, 24):
        assert all(not value.gives_up for one in plan(memory_gb).candidates for _, value in one.strategy.rung.values())


def test_a_pin_wins_over_what_is_allowed() -> None:
    made = plan(108, FULL.but(optimizer=Optimizer.ADAMW), ("adamw_8bit", "last-resorts"))
    assert {one.strategy.rung.optimizer for one in made.candidates} == {Optimizer.ADAMW}
    assert made.choice is None
    assert made.resorts == ()


@pytest.mark.parametrize(("memory_gb", "order"), [(108, LastResort.FEWER_BITS), (40, LastResort.FUSED_UPDATE)])
def test_all_last_resorts_are_taken_in_their_order_and_no_further_than_is_needed(
    memory_gb: int, order: LastResort
) -> None:
    made = plan(memory_gb, allow=("last-resorts",))
    assert made.choice is not None
    (value,) = (value for _, value in made.choice.strategy.rung.changed)
    assert value.last_resort is order
    reached = [value.last_resort for one in made.candidates for _, value in one.strategy.rung.changed]
    assert max(one for one in reached if one is not None) is order
    assert made.resorts == ()


def test_all_last_resorts_change_nothing_where_something_plain_fits() -> None:
    made = plan(140, allow=("last-resorts",))
    assert made.choice is not None
    assert made.choice.strategy.rung.changed == ()
    assert plan(20, LORA, ("last-resorts",)).choice == plan(20, LORA).choice


def test_the_resorts_end() -> None:
    at = scene(108, LORA, ("last-resorts",))
    settled = settle(at)
    assert next_resort(scene(108, LORA), settled) is None, "not all of them are allowed"
    reached = []
    while (order := next_resort(at, settled)) is not None:
        reached.append(order)
        at = replace(at, resort=order)
    assert reached[-1] is LastResort.QUANTIZED_BASE
    assert last_resorts(at, settled) == ()


def test_a_choice_that_gives_something_up_may_have_the_same_adapters_beside() -> None:
    made = plan(20, LORA, ("nf4",))
    slower = [one for one in made.candidates if one.strategy.rung.quantization is Quantization.NF4]
    assert slower
    assert made.choice is not None
    assert made.choice.strategy.rung.quantization is Quantization.NONE, "it is faster, and fits"
    assert replace(made, choice=slower[0]).plain == made.choice
