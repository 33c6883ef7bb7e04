"""What ratios are of: the plainest rung that fits, or the one that is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.efficiency import Cost, Efficiency, Rated
from autofit.domain.energy import Energy
from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Strategy
from autofit.planning.plan.baseline import baseline_of, check_asked_baseline, counted_token_j, measured_cost
from tests.planning import simulated as sim

GB = sim.GB
LADDER = sim.ladder(sim.setting())
STRATEGIES = {f"{one}": one for step in LADDER.steps for one in step.strategies}


def rated(name: str, token_s: float = 1.0, gb: float = 10, *, fits: bool = True, is_measured: bool = True) -> Rated:
    return Rated(strategy(name), Cost(token_s, round(gb * GB), is_measured=is_measured), fits)


def strategy(name: str) -> Strategy:
    return STRATEGIES[name]


def test_is_plain_data_parallel_with_all_parameters() -> None:
    every = [rated("zero0+lora mb1"), rated("zero1 mb1"), rated("zero1+gc mb1"), rated("zero2 mb1")]
    zero0 = replace(strategy("zero1 mb1"), rung=replace(strategy("zero1 mb1").rung, zero_stage=0))
    plain = Rated(zero0, Cost(2.0, GB))

    found = baseline_of([*every, plain])

    assert found == plain


@pytest.mark.parametrize(
    ("every", "name"),
    [
        ([rated("zero1 mb1", fits=False), rated("zero2 mb1"), rated("zero0+lora mb1")], "zero2 mb1"),
        ([rated("zero1+gc mb1"), rated("zero2 mb1"), rated("zero3 mb1")], "zero2 mb1"),  # nothing is turned on
        ([rated("zero1 mb1", fits=False), rated("zero0+lora mb1"), rated("zero1+lora mb1")], "zero0+lora mb1"),
        ([rated("zero1 mb1", 2.0), rated("zero1 mb2", 1.0), rated("zero1 mb4", 0.5, fits=False)], "zero1 mb2"),
        ([rated("zero1 mb1", 2.0), rated("zero1 mb2", 1.0, is_measured=False)], "zero1 mb1"),
        ([rated("zero2 mb1", 1.0, 90, fits=False), rated("zero1 mb2", 1.0, 99, fits=False)], "zero1 mb2"),
        ([rated("zero1 mb1", 2.0, 90, fits=False), rated("zero1 mb2", 1.0, 99, fits=False)], "zero1 mb1"),
    ],
)
def test_is_the_plainest_that_fits_at_its_best(every: list[Rated], name: str) -> None:
    found = baseline_of(every)

    assert found is not None
    assert str(found.strategy) == name


def test_nothing_rated_has_no_baseline() -> None:
    assert baseline_of([]) is None


@pytest.mark.parametrize(
    ("named", "name"),
    [("zero2+lora+gc", "zero2+lora+gc mb2"), ("zero2+gc+lora", "zero2+lora+gc mb2"), ("zero1 mb1", "zero1 mb1")],
)
def test_may_be_named(named: str, name: str) -> None:
    every = [rated("zero1 mb1", 2.0), rated("zero1 mb2"), rated("zero2+lora+gc mb1", 3.0), rated("zero2+lora+gc mb2")]

    found = baseline_of(every, named)

    assert found is not None
    assert str(found.strategy) == name


def test_a_name_that_is_none_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"--baseline zero9 is no strategy of this request; there are zero1, zero2\."):
        baseline_of([rated("zero2 mb1"), rated("zero1 mb1"), rated("zero1 mb2")], "zero9")


def test_energy_is_that_of_the_devices_with_their_hosts() -> None:
    both, host_alone = Energy(0.3, 0.1), Energy(None, 0.1)

    assert counted_token_j(replace(sim.measured(), energy=both), DeviceKind.CUDA) == pytest.approx(0.4)
    assert counted_token_j(replace(sim.measured(), energy=host_alone), DeviceKind.CPU) == 0.1
    assert counted_token_j(replace(sim.measured(), energy=host_alone), DeviceKind.CUDA) is None
    assert counted_token_j(sim.measured(), DeviceKind.CUDA) is None


def test_ratios_are_of_the_baseline_and_measured_where_both_are() -> None:
    slow = replace(sim.measured(100.0, 40 * GB), energy=Energy(0.4, None))
    fast = replace(sim.measured(200.0, 10 * GB), energy=Energy(0.1, None))
    baseline = Rated(strategy("zero1 mb1"), measured_cost(slow, DeviceKind.CUDA))
    one = Rated(strategy("zero2 mb1"), measured_cost(fast, DeviceKind.CUDA))

    assert one.over(baseline) == Efficiency(2.0, 4.0, 4.0)
    assert one.over(baseline).product == 32.0
    assert one.is_measured_over(baseline)
    assert not rated("zero3 mb1", is_measured=False).is_measured_over(baseline)


def test_a_name_that_no_rung_has_is_refused_before_anything_is_estimated() -> None:
    scene = sim.setting()
    check_asked_baseline(replace(scene, request=replace(scene.request, baseline="zero2+gc+lora mb2")))

    with pytest.raises(UsageError, match=r"--baseline zero9 is no strategy of this request; there are zero0, zero1, "):
        check_asked_baseline(replace(scene, request=replace(scene.request, baseline="zero9")))
