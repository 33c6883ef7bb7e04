"""What is chosen without a probe: a strategy that is as good as sure to fit, for a training that is not worth one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autofit.domain.goal import Certainty, TimeToEnd
from autofit.domain.outcome import Measured
from autofit.planning.memory.activations import moments
from autofit.planning.plan.fit import judge, may_lack_host

from .expected_improvement import LEAST_CHANCE, Expectation, expectations
from .merit import leader
from .noise import SPEED_NOISE
from .payoff import Payoff, next_cost
from .search_state import SearchState

SHORT = 30
"""A training is short whose length is less than so many probes. A longer one is worth a look before it starts, which
takes less than a thirtieth of it: what is chosen may still fail, and then its start was for nothing."""

SURE = 0.95
"""The chance to fit on the device, by all that is believed, from which the training itself may show it: where it does
not, its start was for nothing, which takes less than a probe."""


@dataclass(frozen=True)
class SureChoice:
    """The strategy, and of all probes the one that comes nearest to paying for itself; those in `paying` do."""

    of: Expectation
    nearest: Payoff
    paying: tuple[Payoff, ...]


def sure_choice(search: SearchState) -> SureChoice | None:
    """The fastest strategy that is as good as sure to fit, of a short training; None where nothing is sure, something
    that was measured is as fast as is expected of it, or what was sure has failed."""
    goal = search.goal
    if isinstance(goal, Certainty) or goal.step_count is None or _is_let_down(search):
        return None
    left = [one for one in expectations(search, search.histories) if one.chance > LEAST_CHANCE]
    sure = [one for one in left if _is_sure(one, search)]
    if not sure:
        return None
    first = max(sure, key=lambda one: one.expected)
    best = leader(search.histories, search)
    if best is not None and best.merit >= first.expected:
        return None
    own = _payoff(first, first, goal, search)
    if own.rest_s >= SHORT * own.cost_s:
        return None
    all_of_them = [_payoff(one, first, goal, search) for one in left]
    paying = tuple(payoff for payoff in all_of_them if payoff.gain_s > 0)
    return SureChoice(first, max(all_of_them, key=lambda payoff: payoff.gain_s), paying)


def _is_let_down(search: SearchState) -> bool:
    """Whether something has failed that was as good as sure before anything was tried."""
    failed = {trial.strategy for trial in search.trials if not isinstance(trial.outcome, Measured)}
    if not failed:
        return False
    before = SearchState.of(search.ladder, (), search.setting, search.goal)
    among = [history for history in before.histories if not failed.isdisjoint(history.strategies)]
    return any(one.strategy in failed and _is_sure(one, before) for one in expectations(before, among))


def _is_sure(one: Expectation, search: SearchState) -> bool:
    """Whether it is as good as sure to fit by a trace, for the closed form knows no model's own code, and its host has
    enough even if that is predicted too low."""
    if one.chance < SURE or moments(one.strategy, search.setting) is None:
        return False
    estimate = search.ladder.estimate(one.strategy)
    has_host = not may_lack_host(estimate.memory, search.setting.hardware)
    return has_host and judge(one.strategy, estimate, search.setting).verdict.may_fit


def _payoff(one: Expectation, first: Expectation, goal: TimeToEnd, search: SearchState) -> Payoff:
    """What a probe of it would cost and save a training with `first`.

    Where seconds are not known only its steps count, for how many of the training's they are is known: a probe costs
    more. What two strategies share of their error does not tell them apart.
    """
    assert goal.step_count is not None
    tokens_per_step = search.ladder.estimate(one.strategy).speed.tokens_per_step
    cost = next_cost(search)
    if not search.knows_seconds(one.strategy):
        cost = replace(cost, beside_s=0.0)
    tokens = goal.step_count * tokens_per_step
    apart = replace(one, spread=search.log_gain(one.strategy, first.strategy).std)
    return Payoff(apart, cost.seconds(one.strategy, one.expected), tokens / first.expected, tokens, SPEED_NOISE)
