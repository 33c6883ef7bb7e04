"""In which order the plans of several machines stand: the best one first, by what is looked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autofit.domain.errors import UsageError
from autofit.domain.hardware import Hardware
from autofit.domain.objective import Objective
from autofit.domain.plan import Plan
from autofit.hardware.machine_spec import is_called
from autofit.planning.plan.cost import Price, token_j
from autofit.planning.predicted_merit import predicted_merit


@dataclass(frozen=True)
class MachineOrder:
    """The order by the request's objective or, `is_cheapest_first`, by the price of a token on each machine."""

    prices: tuple[Price, ...] = ()
    is_cheapest_first: bool = False

    def check(self, machines: Sequence[Hardware]) -> None:
        """Checks the prices; UsageError for one of a machine that is not there, and for one that is missing."""
        for price in self.prices:
            if price.name is not None and not any(is_called(price.name, machine) for machine in machines):
                names = ", ".join(dict.fromkeys(machine.summary for machine in machines))
                raise UsageError(f"--price {price.name}={price.amount:g} is of none of the machines: {names}.")
        unpriced = [machine.summary for machine in machines if self.price_per_device_hour(machine) is None]
        if self.is_cheapest_first and unpriced:
            raise UsageError(
                f"--optimize cost needs the price of a device-hour of {', '.join(unpriced)}: give --price NAME=AMOUNT."
            )

    def price_per_device_hour(self, machine: Hardware) -> float | None:
        """By the name that means it, else by the price of all; the last one told where there are several."""
        named = [price.amount for price in self.prices if price.name is not None and is_called(price.name, machine)]
        return [None, *(price.amount for price in self.prices if price.name is None), *named][-1]

    def best_first(self, plans: Iterable[Plan]) -> tuple[Plan, ...]:
        return tuple(sorted(plans, key=self._rank, reverse=True))

    def _rank(self, plan: Plan) -> tuple[float, float]:
        """What plans are sorted by. Relative speeds say nothing across machines, nor does a power that is not known:
        such a machine stands behind the others; last come those where something only may fit, and where nothing
        does."""
        estimate = None if plan.choice is None else plan.choice.estimate
        if estimate is None:
            return (0.5 if plan.possible else 0.0), 0.0
        merit = self._merit(plan)
        return (1.0, 0.0) if merit is None else (2.0, merit)

    def _merit(self, plan: Plan) -> float | None:
        assert plan.choice is not None
        estimate, objective = plan.choice.estimate, plan.request.objective
        assert estimate is not None
        if objective is Objective.MEMORY:
            return predicted_merit(estimate, objective)
        if not estimate.speed.is_absolute:
            return None
        if self.is_cheapest_first:
            price = self.price_per_device_hour(plan.hardware)
            return None if price is None else estimate.speed.tokens_per_s / (price * plan.hardware.rank_count)
        if objective is Objective.ENERGY:
            joules = token_j(estimate.speed, plan.hardware)
            return None if joules is None else 1 / joules
        return predicted_merit(estimate, objective)
