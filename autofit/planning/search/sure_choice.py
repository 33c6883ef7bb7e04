"""What is chosen without a probe: a strategy that is likely enough to fit, for a training that is not worth one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from autofit.domain.goal import Certainty
from autofit.domain.outcome import OutOfMemory
from autofit.planning.memory.activations import moments
from autofit.planning.plan.fit import judge, may_lack_host

from .expected_improvement import LEAST_CHANCE, Expectation, expectations
from .merit import leader
from .noise import SPEED_NOISE
from .payoff import Payoff, next_cost
from .probe_cost import ProbeCost
from .search_state import SearchState

SHORT = 60
"""A training is short whose length is less than so many probes. A longer one is worth a look before it starts, which
takes less than a sixtieth of it: what is chosen may still fail, and then its start was for nothing."""

SURE = 0.8
"""The chance to fit on the device, by all that is believed, from which the training itself may show it: where it does
not, its start was for nothing, which takes less than a probe. No less than so, for nobody likes a training that fails
to see whether it fits."""

SEEN_SHARE_BEFORE_START = 0.3
"""Of what a probe is expected to save, what it does where the training could start at once: what it costs is not known
well, and is taken too low where seconds are not known at all; and the one that promises the most of many is the most
overestimated (Smith and Winkler, The Optimizer's Curse, Management Science 2006). Chosen on simulated machines."""


@dataclass(frozen=True)
class SureChoice:
    """The strategy, and of all probes the one that comes nearest to paying for itself; those in `paying` do."""

    of: Expectation
    nearest: Payoff
    paying: tuple[Payoff, ...]


def sure_choice(search: SearchState) -> SureChoice | None:
    """Of the strategies that are sure enough to fit the one with the least expected time, of a short training; None
    where nothing is sure, something that was measured is expected to take no longer, or what was sure lacked memory."""
    goal = search.goal
    if isinstance(goal, Certainty) or goal.step_count is None or _is_let_down(search):
        return None
    left = [one for one in expectations(search, search.histories) if one.chance > LEAST_CHANCE]
    sure = [one for one in left if _is_sure(one, search)]
    if not sure:
        return None
    tokens = goal.step_count * search.tokens_per_step
    expected_s = {one.strategy: _expected_s(one, tokens, search) for one in sure}
    first = min(sure, key=lambda one: expected_s[one.strategy])
    best = leader(search.histories, search)
    if best is not None and tokens / best.merit <= expected_s[first.strategy]:
        return None
    own = _payoff(first, first, tokens, search)
    if own.rest_s >= SHORT * own.cost_s:
        return None
    all_of_them = [_payoff(one, first, tokens, search) for one in left]
    paying = tuple(payoff for payoff in all_of_them if payoff.gain_s > 0)
    return SureChoice(first, max(all_of_them, key=lambda payoff: payoff.gain_s), paying)


def _is_let_down(search: SearchState) -> bool:
    """Whether something lacked memory that was sure to fit before anything was tried."""
    failed = {trial.strategy for trial in search.trials if isinstance(trial.outcome, OutOfMemory)}
    if not failed:
        return False
    before = SearchState.of(search.ladder, (), search.setting, search.goal)
    among = [history for history in before.histories if not failed.isdisjoint(history.strategies)]
    return any(one.strategy in failed and _is_sure(one, before) for one in expectations(before, among))


def _expected_s(one: Expectation, tokens: float, search: SearchState) -> float:
    """The seconds that a training of `tokens` is expected to take, that of a log-normal speed, and those of a start for
    nothing by the chance of one. What is not known as well may take much longer: it is held against that."""
    training_s = tokens / one.expected * math.exp(one.spread**2 / 2)
    return training_s + (1 - one.chance) * _cost(one, search).failed_start_s(one.strategy, one.expected)


def _is_sure(one: Expectation, search: SearchState) -> bool:
    """Whether it is sure enough to fit by a trace, for the closed form knows no model's own code, and its host has
    enough even if that is predicted too low."""
    if one.chance < SURE or moments(one.strategy, search.setting) is None:
        return False
    estimate = search.ladder.estimate(one.strategy)
    has_host = not may_lack_host(estimate.memory, search.setting.hardware)
    return has_host and judge(one.strategy, estimate, search.setting).verdict.may_fit


def _payoff(one: Expectation, first: Expectation, tokens: float, search: SearchState) -> Payoff:
    """What a probe of it would cost and save a training of `tokens` with `first`. What two strategies share of their
    error does not tell them apart."""
    apart = replace(one, spread=search.log_gain(one.strategy, first.strategy).std)
    cost_s = _cost(one, search).seconds(one.strategy, one.expected)
    return Payoff(apart, cost_s, tokens / first.expected, tokens, SPEED_NOISE, SEEN_SHARE_BEFORE_START)


def _cost(one: Expectation, search: SearchState) -> ProbeCost:
    """Where seconds are not known only steps count, for how many of the training's they are is known: it is more."""
    cost = next_cost(search)
    return cost if search.knows_seconds(one.strategy) else replace(cost, beside_s=0.0)
