"""What to do next when earlier runs are remembered: they are believed as far as one probe of today confirms them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import mean

from autofit.domain.goal import AN_HOUR, Certainty, Goal
from autofit.domain.ladder import Ladder
from autofit.domain.outcome import Measured, is_lasting
from autofit.domain.trial import Action, Choice, Choose, GiveUp, Probe, Trial
from autofit.domain.units import brief_seconds
from autofit.planning.plan.fit import fits
from autofit.planning.setting import Setting

from .merit import leader
from .noise import DOUBT, speed_noise
from .payoff import cost_by, tokens_left
from .policy import decide
from .search_state import SearchState

SAME_SPEED = 0.1
"""How far, relatively, a speed may lie from the remembered one; a loaded machine's differ by some per cent, and more
where the steps of either differed more."""

CHEAP = 0.005
"""The share of a training that the probe may take which confirms what is remembered: if it is not true any more the
training says so itself, and is searched then. Less than a probe may take before what nobody has seen is started."""


def decide_with_warm_start(
    ladder: Ladder, remembered: Sequence[Trial], trials: Sequence[Trial], setting: Setting, goal: Goal = AN_HOUR
) -> Action:
    """Decides like `decide`, with the trials of earlier runs beside those of today.

    What was only measured in the past is probed before it is chosen, unless the training is too short for that. When a
    trial of today contradicts a remembered one, and before giving up, the search goes on as if nothing were remembered.
    """
    past = tuple(_still_valid(ladder, remembered))
    if not past or is_contradicted(past, trials, ladder.device_memory_bytes):
        return decide(ladder, trials, setting, goal)
    action = decide(ladder, [*_as_of_today(past, trials), *trials], setting, goal)
    match action:
        case GiveUp():
            return decide(ladder, trials, setting, goal)
        case Choose():
            search = SearchState.of(ladder, trials, setting, goal)
            found = _too_dear(action.choice, search) or _unconfirmed(action.choice, past, search)
            return found or _once_confirmed(action, past, trials)
        case _:
            return action


def is_contradicted(remembered: Sequence[Trial], trials: Sequence[Trial], device_bytes: int) -> bool:
    """Whether a strategy that was tried again fits no longer, fits only now, or runs at another speed."""
    return any(not _agree(then, now, device_bytes) for then, now in _pairs(remembered, trials))


def _still_valid(ladder: Ladder, remembered: Sequence[Trial]) -> Iterator[Trial]:
    """The remembered trials that still say something, with the estimates of today, which may be better."""
    estimates = {
        strategy: estimate
        for step in ladder.steps
        for strategy, estimate in zip(step.strategies, step.estimates, strict=True)
    }
    for trial in remembered:
        if is_lasting(trial.outcome) and trial.strategy in estimates:
            yield replace(trial, estimate=estimates[trial.strategy])


def _pairs(remembered: Sequence[Trial], trials: Sequence[Trial]) -> Iterator[tuple[Trial, Trial]]:
    """Each trial of today with the one that is remembered of the same strategy; a rehearsal with a rehearsal."""
    past = {(trial.strategy, trial.is_rehearsal): trial for trial in remembered}
    for trial in trials:
        if (then := past.get((trial.strategy, trial.is_rehearsal))) is not None:
            yield then, trial


def _agree(then: Trial, now: Trial, device_bytes: int) -> bool:
    before, after = _sound(then, device_bytes), _sound(now, device_bytes)
    if before is None or after is None:
        return before is after
    doubt = DOUBT * math.hypot(speed_noise(before), speed_noise(after))
    return abs(after.tokens_per_s / before.tokens_per_s - 1) <= max(SAME_SPEED, doubt)


def _sound(trial: Trial, device_bytes: int) -> Measured | None:
    outcome = trial.outcome
    return outcome if isinstance(outcome, Measured) and fits(outcome, device_bytes) else None


def _as_of_today(past: Sequence[Trial], trials: Sequence[Trial]) -> Iterator[Trial]:
    """The remembered trials without what was tried again, as fast as today: otherwise noise would set remembered rungs
    above the confirmed one."""
    gains = [_gain(then, now) for then, now in _pairs(past, trials)]
    gain = mean(gains) if gains else 1.0
    again = {trial.strategy for trial in trials}
    for trial in past:
        if trial.strategy not in again:
            yield _faster(trial, gain)


def _gain(then: Trial, now: Trial) -> float:
    if isinstance(then.outcome, Measured) and isinstance(now.outcome, Measured):
        return now.outcome.tokens_per_s / then.outcome.tokens_per_s
    return 1.0


def _faster(trial: Trial, gain: float) -> Trial:
    outcome = trial.outcome
    if not isinstance(outcome, Measured):
        return trial
    return replace(
        trial,
        outcome=replace(
            outcome,
            tokens_per_s=outcome.tokens_per_s * gain,
            step_s=outcome.step_s / gain,
            micro_step_s=outcome.micro_step_s / gain,
            update_s=outcome.update_s / gain,
        ),
    )


def _too_dear(remembered: Choice, search: SearchState) -> Choose | None:
    """The choice among what was measured today, where to confirm the remembered one costs more than it saves."""
    best, goal = leader(search.histories, search), search.goal
    if best is None or isinstance(goal, Certainty) or any(one.strategy == remembered.strategy for one in search.trials):
        return None
    speed, rival = remembered.probed.tokens_per_s, best.measured.tokens_per_s
    tokens = tokens_left(goal, rival, search)
    cost_s = _confirming_s(remembered, search.trials, search)
    saving_s = tokens / rival - tokens / speed
    if saving_s > cost_s:
        return None
    costs = f"would cost {brief_seconds(cost_s)} and save {brief_seconds(max(0.0, saving_s))}"
    why = f"to confirm {remembered.strategy}, the fastest of earlier runs, {costs} of {brief_seconds(tokens / rival)}"
    reach_s = tokens / rival * cost_s / saving_s if saving_s > 0 else remembered.reach_s
    return Choose(replace(remembered, strategy=best.strategy, measured=best.measured, why=why, reach_s=reach_s))


def _unconfirmed(remembered: Choice, past: Sequence[Trial], search: SearchState) -> Choose | None:
    """The remembered choice as it is, of a training so short that to confirm it is not CHEAP. Of a script it is always
    confirmed: nobody searches on where it fails."""
    goal = search.goal
    if isinstance(goal, Certainty) or goal.step_count is None or search.setting.is_script:
        return None
    speed = remembered.probed.tokens_per_s
    rest_s = tokens_left(goal, speed, search) / speed
    cost_s = _confirming_s(remembered, past, search)
    if cost_s < CHEAP * rest_s:
        return None
    costs = f"to confirm it would cost {brief_seconds(cost_s)} of {brief_seconds(rest_s)}"
    why = f"{remembered.why}; {_count(past)} of earlier runs, {costs}"
    return Choose(replace(remembered, why=why, is_remembered=True))


def _confirming_s(remembered: Choice, trials: Sequence[Trial], search: SearchState) -> float:
    """The seconds of a probe of the remembered choice, by what `trials` took."""
    return cost_by(trials, search).seconds(remembered.strategy, remembered.probed.tokens_per_s)


def _once_confirmed(action: Choose, past: Sequence[Trial], trials: Sequence[Trial]) -> Probe | Choose:
    choice = action.choice
    if all(trial.strategy != choice.strategy for trial in trials):
        return Probe(choice.strategy, "confirms what was remembered")
    return Choose(replace(choice, why=f"{choice.why}; {_count(past)} of earlier runs counted too"))


def _count(past: Sequence[Trial]) -> str:
    return f"{len(past)} trial{'' if len(past) == 1 else 's'}"
