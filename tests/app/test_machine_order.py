"""Plans of several machines, the best first by what is looked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.app.machine_order import MachineOrder
from autofit.domain.errors import UsageError
from autofit.domain.estimate import SpeedEstimate
from autofit.domain.hardware import Hardware
from autofit.domain.objective import Objective
from autofit.domain.plan import Candidate, Plan, Verdict
from autofit.hardware.machine_spec import parse_machine
from autofit.planning.plan.cost import Price
from tests.report import simulated as sim

L40S, H100, V100 = "8xL40S", "8xH100", "8xV100-32GB"
SPEEDS = {L40S: 10_000.0, H100: 40_000.0, V100: 4_000.0}
PEAKS_GB = {L40S: 40.0, H100: 70.0, V100: 30.0}


def plan(on: str, objective: Objective = Objective.SPEED, *, is_absolute: bool = True) -> Plan:
    estimate = replace(
        sim.estimate(PEAKS_GB[on]), speed=SpeedEstimate(SPEEDS[on], 1.0, 0.0, 0.0, 0.0, is_absolute=is_absolute)
    )
    pick = Candidate(sim.strategy("zero2", 1), estimate, Verdict.FITS, "fits", is_expected=True)
    return Plan(sim.SHAPE, parse_machine(on), replace(sim.REQUEST, objective=objective), pick, (pick,))


def order_of(order: MachineOrder, objective: Objective = Objective.SPEED) -> list[Hardware]:
    return [one.hardware for one in order.best_first(plan(on, objective) for on in SPEEDS)]


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        (Objective.SPEED, [H100, L40S, V100]),
        (Objective.MEMORY, [V100, L40S, H100]),
        (Objective.ENERGY, [H100, L40S, V100]),  # 700, 350 and 300 W
        (Objective.BALANCED, [H100, L40S, V100]),
    ],
)
def test_by_the_objective(objective: Objective, names: list[str]) -> None:
    assert order_of(MachineOrder(), objective) == [parse_machine(on) for on in names]


@pytest.mark.parametrize(
    ("prices", "names"),
    [
        ((Price(1.0, "L40S"), Price(3.0, "H100"), Price(0.2, "V100")), [V100, H100, L40S]),
        ((Price(1.0, "L40S"), Price(5.0, "H100"), Price(1.0, "V100")), [L40S, H100, V100]),
        ((Price(1.0), Price(5.0, "8xH100")), [L40S, H100, V100]),
        ((Price(1.0),), [H100, L40S, V100]),
    ],
)
def test_by_the_price_of_a_token(prices: tuple[Price, ...], names: list[str]) -> None:
    assert order_of(MachineOrder(prices, is_cheapest_first=True)) == [parse_machine(on) for on in names]


def test_what_is_only_relative_or_does_not_fit_stands_behind() -> None:
    relative = plan(H100, is_absolute=False)
    unsure, nothing = replace(plan(L40S), choice=None), replace(plan(L40S), choice=None, candidates=())

    found = MachineOrder().best_first([nothing, unsure, relative, plan(V100)])

    assert found == (plan(V100), relative, unsure, nothing)


def test_a_price_of_no_machine_is_refused() -> None:
    with pytest.raises(UsageError, match="--price A100=2 is of none of the machines: 8 × NVIDIA L40S"):
        MachineOrder((Price(2.0, "A100"),)).check([parse_machine(L40S)])


def test_the_cheapest_machine_needs_the_price_of_each() -> None:
    order = MachineOrder((Price(2.0, "L40S"),), is_cheapest_first=True)

    order.check([parse_machine(L40S)])
    with pytest.raises(UsageError, match=r"--optimize cost needs the price of a device-hour of 8 × .*H100"):
        order.check([parse_machine(L40S), parse_machine(H100)])
