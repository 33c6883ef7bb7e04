"""What to do next, as a pure function of the ladder and the trials so far: it replays from a log."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from autofit.domain.goal import AN_HOUR, Certainty, Goal, TimeToEnd
from autofit.domain.knobs.method import Method
from autofit.domain.ladder import Ladder
from autofit.domain.objective import Objective
from autofit.domain.strategy import LESS, Rung
from autofit.domain.trial import Action, Choose, Probe, Rehearse, Trial
from autofit.planning.setting import Setting

from .certificate import choice, unprobed_choice
from .expected_improvement import LEAST_CHANCE, Expectation, expectations
from .finalists import look_s, second_looks
from .giving_up import give_up
from .merit import TIE, Best, leader
from .noise import outpacing
from .patience import step_silence_s
from .payoff import Payoff, payoffs
from .search_state import SearchState
from .sure_choice import sure_choice
from .wording import words_of

WORTH_BESIDE = 0.05
"""The least relative gain for which the plain rung that is only named beside a choice is probed."""

CHEAP_BESIDE = 0.01
"""The share of the training that is left which a probe of that rung may take, with all that the search took before."""

PROBE_BUDGET = 12
"""Probes after which a search for certainty that has found something that fits ends, proof or no proof."""

BUDGET_BESIDE = 15
"""The same for the rung beside; the search for the first one that fits goes on beyond it."""

REHEARSED_BELOW = 0.5
"""Where time counts, rehearsals come before the first probe if this is less likely than so to fit."""


def decide(ladder: Ladder, trials: Sequence[Trial], setting: Setting, goal: Goal = AN_HOUR) -> Action:
    """Rehearse or probe something, choose, or give up; `setting` is what the ladder was built from.

    Terminates: no strategy is asked for twice, but for one that crashed before it had begun, which gets one more try,
    and for those between which noise decides, which get MOST_LOOKS.
    """
    search = SearchState.of(ladder, trials, setting, goal)
    action = _decided(search)
    if not isinstance(action, Probe):
        return action
    return replace(action, step_silence_s=step_silence_s(action.strategy, search))


def _decided(search: SearchState) -> Action:
    best = leader(search.histories, search)
    if (sure := sure_choice(search)) is not None:
        return _paying_probe(sure.paying) or Choose(unprobed_choice(search, sure))
    next_action = _retry(search) or _next(search)
    if next_action is not None:
        return _raced(next_action, best, search)
    if best is None:
        return give_up(search)
    return _next_beside(search, best) or Choose(choice(search, best))


def _raced(action: Probe | Rehearse, rival: Best | None, search: SearchState) -> Probe | Rehearse:
    """The action, which as a probe ends early if it cannot beat `rival`; one that was probed before gets its time. One
    step tells how fast a strategy is, and neither its peak nor its energy."""
    if isinstance(action, Rehearse) or rival is None or search.has_been_probed(action.strategy):
        return action
    if search.objective is not Objective.SPEED:
        return action
    return replace(action, least_tokens_per_s=outpacing(rival.measured, search.trials))


def _retry(search: SearchState) -> Probe | None:
    retries = (history.retry for history in search.histories if history.retry is not None)
    strategy = next(retries, None)
    return None if strategy is None else Probe(strategy, "once more: it crashed before it had begun")


def _next(search: SearchState) -> Probe | Rehearse | None:
    """The next probe, among the strategies that are worth it; among all while nothing fits."""
    best = leader(search.histories, search)
    left = expectations(search, search.histories)
    if best is None:
        first = _best_probe(left, None, search)
        return first and (_rehearsal(left, first, search) or first)
    if not isinstance(search.goal, Certainty):
        return _paying_probe(payoffs(left, best.merit, search.goal, search)) or _paying_look(search, best, search.goal)
    if search.probe_count >= PROBE_BUDGET:
        return None
    return _best_probe(_worth_it(left, best, search.goal.gain), best, search)


def _paying_probe(left: Sequence[Payoff]) -> Probe | None:
    """The probe with the least reservation value of those that save more than they cost."""
    worth = [payoff for payoff in left if payoff.gain_s > 0]
    if not worth:
        return None
    first = min(worth, key=lambda payoff: payoff.reservation_s)
    return Probe(first.of.strategy, first.text())


def _paying_look(search: SearchState, best: Best, goal: TimeToEnd) -> Probe | None:
    """The probe of a measured strategy that is expected to save the most beyond what it costs, if any does."""
    first = max(second_looks(search, best, goal), key=lambda payoff: payoff.gain_s, default=None)
    if first is None or first.gain_s <= 0:
        return None
    strategy = first.of.strategy
    return Probe(strategy, f"once more: it {first.text()}", measure_s=look_s(strategy, search))


def _next_beside(search: SearchState, chosen: Best) -> Probe | Rehearse | None:
    """The next probe among the rungs that change less of the training than the chosen one, of those that change least
    and may fit."""
    for change in LESS[chosen.history.rung.change]:
        plain = search.changing(change)
        best, left = leader(plain, search), expectations(search, plain)
        probe = _plain_probe(left, best, chosen, search)
        if probe is not None:
            return _raced(probe, best, search)
        if best is not None or any(one.chance > LEAST_CHANCE for one in left):
            return None
    return None


def _plain_probe(left: Sequence[Expectation], best: Best | None, chosen: Best, search: SearchState) -> Probe | None:
    """The next probe among `left` that is expected to be worth it, `best` being the best of their kind: no proof,
    since it is not the one that runs. Where time counts, only what is cheap beside the training that is left."""
    if not isinstance(search.goal, Certainty):
        cheap = payoffs(left, chosen.merit, search.goal, search, has_slower=True)
        spent_s = sum(trial.outcome.total_s for trial in search.trials)
        left = tuple(one.of for one in cheap if spent_s + one.cost_s < CHEAP_BESIDE * one.rest_s)
    if best is None:
        return _best_probe(left, None, search)
    if search.probe_count >= BUDGET_BESIDE:
        return None
    worth = best.merit * (1 + WORTH_BESIDE)
    return _best_probe([p for p in _worth_it(left, best, WORTH_BESIDE) if p.expected > worth], best, search)


def _worth_it(left: Iterable[Expectation], best: Best, gain: float) -> list[Expectation]:
    worth = best.merit * (1 + gain)
    return [expectation for expectation in left if expectation.bound > worth and expectation.chance > LEAST_CHANCE]


def _best_probe(left: Sequence[Expectation], best: Best | None, search: SearchState) -> Probe | None:
    if not left:
        return None
    rival = 0.0 if best is None else best.merit
    chosen = max(left, key=lambda expectation: expectation.expected_improvement(rival))
    if search.objective is Objective.MEMORY:
        chosen = _fastest_alike(chosen, left, search)
    return Probe(chosen.strategy, _reason(chosen, best, search))


def _fastest_alike(chosen: Expectation, left: Sequence[Expectation], search: SearchState) -> Expectation:
    """The fastest of those whose peak is expected to be no larger than that of the chosen one, or hardly."""
    alike = [one for one in left if one.expected >= chosen.expected / (1 + TIE) and one.chance >= chosen.chance]
    return max(alike, key=lambda one: search.log_speed(one.strategy).mean)


def _rehearsal(left: Sequence[Expectation], first: Probe, search: SearchState) -> Rehearse | None:
    """The rehearsal before anything is measured: one rung of each kind of activations, which is what a rehearsal tells
    most of, then the next best ones. Where time counts, only if the first probe is likely to fail."""
    if search.setting.rehearsal_count < 2 or search.has_measured:
        return None
    if not isinstance(search.goal, Certainty) and search.chance(first.strategy) >= REHEARSED_BELOW:
        return None
    rehearsed = {trial.strategy for history in search.histories for trial in history.rehearsals}
    fresh = [expectation for expectation in left if expectation.strategy not in rehearsed]
    ordered = sorted(fresh, key=lambda expectation: expectation.expected_improvement(0.0), reverse=True)
    by_rung = _firsts(ordered, lambda expectation: expectation.history.rung)
    by_kind = _firsts(by_rung, lambda expectation: _activations(expectation.history.rung))
    others = [expectation for expectation in by_rung if expectation not in by_kind]
    chosen = [expectation.strategy for expectation in (*by_kind, *others)[: search.setting.rehearsal_count]]
    return Rehearse(tuple(chosen), "one rank each, side by side") if len(chosen) > 1 else None


def _activations(rung: Rung) -> tuple[Method, bool]:
    """The kind of a rung's activations: those of a few kept layers are like those of all."""
    return rung.method, rung.gradient_checkpointing.share == 1


def _firsts(ordered: Iterable[Expectation], key: Callable[[Expectation], Hashable]) -> list[Expectation]:
    """The first of each kind, in order."""
    firsts: dict[Hashable, Expectation] = {}
    for expectation in ordered:
        firsts.setdefault(key(expectation), expectation)
    return list(firsts.values())


def _reason(expectation: Expectation, best: Best | None, search: SearchState) -> str:
    words = words_of(search)
    if best is not None:
        return words.could_reach(expectation.bound, best.merit)
    return f"{words.predicted} of those that may still fit" if search.trials else words.predicted
