"""What is chosen without a probe: a strategy that is sure to fit, for a training that is not worth a probe."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autofit.domain.goal import Certainty, TimeToEnd
from autofit.domain.outcome import Measured
from autofit.domain.plan import Verdict
from autofit.planning.memory.activations import moments
from autofit.planning.plan.fit import judge

from .expected_improvement import LEAST_CHANCE, Expectation, expectations
from .noise import SPEED_NOISE
from .payoff import Payoff
from .probe_cost import ProbeCost
from .search_state import SearchState

SHORT = 20
"""A training is short whose length is less than so many probes. A longer one is worth a look before it starts, which
takes less than a twentieth of it: what is sure to fit may still fail, and then its start was for nothing."""

SURE = 0.99
"""The chance to fit, by all that is believed, that a strategy needs beside the plan's verdict."""


@dataclass(frozen=True)
class SureChoice:
    """The strategy, and of all probes the one that comes nearest to paying for itself; those in `paying` do."""

    of: Expectation
    nearest: Payoff
    paying: tuple[Payoff, ...]


def sure_choice(search: SearchState) -> SureChoice | None:
    """The fastest strategy that is sure to fit, of a short training for which nothing that fits was measured yet; None
    where nothing is sure, or what was sure has failed."""
    goal = search.goal
    if isinstance(goal, Certainty) or goal.step_count is None or search.has_measured or _is_let_down(search):
        return None
    left = [one for one in expectations(search, search.histories) if one.chance > LEAST_CHANCE]
    sure = [one for one in left if _is_sure(one, search)]
    if not sure:
        return None
    first = max(sure, key=lambda one: one.expected)
    own = _payoff(first, first, goal, search)
    if own.rest_s >= SHORT * own.cost_s:
        return None
    all_of_them = [_payoff(one, first, goal, search) for one in left]
    paying = tuple(payoff for payoff in all_of_them if payoff.gain_s > 0)
    return SureChoice(first, max(all_of_them, key=lambda payoff: payoff.gain_s), paying)


def _is_let_down(search: SearchState) -> bool:
    """Whether something has failed that should have fitted."""
    failed = (trial for trial in search.trials if not isinstance(trial.outcome, Measured))
    return any(judge(trial.strategy, trial.estimate, search.setting).verdict is Verdict.FITS for trial in failed)


def _is_sure(one: Expectation, search: SearchState) -> bool:
    """Whether it fits even if its estimate errs, by a trace: the closed form knows no model's own code."""
    if one.chance < SURE or moments(one.strategy, search.setting) is None:
        return False
    verdict = judge(one.strategy, search.ladder.estimate(one.strategy), search.setting).verdict
    return verdict is Verdict.FITS


def _payoff(one: Expectation, first: Expectation, goal: TimeToEnd, search: SearchState) -> Payoff:
    """What a probe of it would cost and save a training with `first`.

    Where seconds are not known only its steps count, for how many of the training's they are is known: a probe costs
    more. What two strategies share of their error does not tell them apart.
    """
    assert goal.step_count is not None
    estimate = search.ladder.estimate(one.strategy)
    tokens_per_step = estimate.speed.tokens_per_step
    cost = ProbeCost.of((), tokens_per_step, is_uniform=search.is_uniform, task=search.setting.request.task)
    if not estimate.speed.is_absolute:
        cost = replace(cost, beside_s=0.0)
    tokens = goal.step_count * tokens_per_step
    apart = replace(one, spread=search.log_gain(one.strategy, first.strategy).std)
    return Payoff(apart, cost.seconds(one.strategy, one.expected), tokens / first.expected, tokens, SPEED_NOISE)
