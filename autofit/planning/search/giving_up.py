"""The end of a search that measured nothing: how near it came, or what was broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from autofit.domain.ending import CALLED, LARGER_SHARED_MEMORY, broken_text
from autofit.domain.ladder import Ladder
from autofit.domain.outcome import BROKEN, Measured, Outcome, OutOfMemory, Place
from autofit.domain.resort import Resort
from autofit.domain.strategy import Strategy
from autofit.domain.trial import GiveUp, Trial
from autofit.planning.memory.interval import HEADROOM
from autofit.planning.plan.advice import advice, settled_of
from autofit.planning.plan.last_resorts import last_resorts
from autofit.planning.setting import Setting
from autofit.planning.space.ladder_builder import make_step

from .rung_history import RungHistory
from .search_state import SearchState


@dataclass(frozen=True)
class Miss:
    """A rung that did not fit, and the device memory that it would need: measured where it was, else predicted."""

    strategy: Strategy
    needs_bytes: int


def give_up(search: SearchState) -> GiveUp:
    """Gives up with the closest rung and what would make it fit, as far as that was about memory, and with the first
    complaint of the rungs that failed otherwise."""
    trials = [trial for history in search.histories for trial in history.trials]
    broken = _broken(trials)
    if trials and len(broken) == len(trials):
        return GiveUp(_broken_why(broken), is_memory=False)
    misses = [*_probed_misses(search), *_predicted_misses(search)]
    why, would_fit = _memory_why(trials, broken), advice(search.ladder, search.setting, _underestimate(search))
    closest = min(misses, key=lambda miss: miss.needs_bytes, default=None)
    if closest is None:
        return GiveUp(why, would_fit=would_fit, is_memory=not broken)
    return GiveUp(why, closest.strategy, closest.needs_bytes, search.device_bytes, would_fit, is_memory=not broken)


def named_resorts(ladder: Ladder, trials: Sequence[Trial], setting: Setting) -> tuple[Resort, ...]:
    """The last resorts with which something would fit, after a search that gave up because nothing does; `setting` may
    have traces that the ladder was built without."""
    settled, search = settled_of(ladder), SearchState.of(ladder, trials, setting)
    return () if settled is None else last_resorts(setting, settled, _underestimate(search))


def _probed_misses(search: SearchState) -> list[Miss]:
    return [
        Miss(trial.strategy, max(_seen_bytes(trial, history.device_bytes), trial.estimate.memory.peak_bytes))
        for history in search.histories
        for trial in (*history.trials, *history.rehearsals)
        if not history.speeds and history.has_shown_too_large(trial)
    ]


def _seen_bytes(trial: Trial, device_bytes: int) -> int:
    """What it held and asked for when it failed, or what it left no room beside: it needs at least that.

    A fragmented allocator fails with less in hand than the device has; what it asked for was missing all the same.
    """
    outcome = trial.outcome
    if isinstance(outcome, OutOfMemory):
        requested_bytes = outcome.requested_bytes or 1
        return max((outcome.peak_bytes or 0), device_bytes) + requested_bytes
    return round(outcome.peak_device_bytes / (1 - HEADROOM)) if isinstance(outcome, Measured) else 0


def _predicted_misses(search: SearchState) -> list[Miss]:
    return [
        Miss(make_step(out.rung, search.setting).leanest, search.device_bytes + out.short_bytes)
        for out in search.ladder.left_out
        if out.short_bytes is not None
    ]


def _underestimate(search: SearchState) -> float:
    """The factor by which the predictions were too low at least, where a rung that should have fitted did not."""
    failed = [history for history in search.histories if history.too_large_strategies and not history.speeds]
    return max([1.0, *(_shortfall(history, search.device_bytes) for history in failed)])


def _shortfall(history: RungHistory, device_bytes: int) -> float:
    return device_bytes / max(1, history.step.estimates[0].memory.peak_bytes)


def _memory_why(trials: list[Trial], broken: list[Trial]) -> str:
    if not trials:
        return "every rung is too large by prediction"
    hosts = [t for t in trials if isinstance(t.outcome, OutOfMemory) and t.outcome.place is Place.HOST]
    devices = [trial for trial in trials if _lacks_device_memory(trial)]
    parts = [f"{len(devices)} rungs ran out of device memory"] if devices else []
    parts += [f"{len(hosts)} ran out of host memory"] if hosts else []
    parts += [f"{len(broken)} failed otherwise ({_counts(broken)}; the first: {_told(broken[0])})"] if broken else []
    rest = "what was not probed needs no less" if not broken else "what else was not probed may need no less"
    return f"{', '.join(parts) or 'nothing was measured'}; {rest}"


def _lacks_device_memory(trial: Trial) -> bool:
    outcome = trial.outcome
    return isinstance(outcome, Measured) or (isinstance(outcome, OutOfMemory) and outcome.place is Place.DEVICE)


def _broken_why(broken: list[Trial]) -> str:
    count = "the only probe" if len(broken) == 1 else f"{len(broken)} probes"
    return f"{count} failed, none for want of memory ({_counts(broken)}); the first: {_told(broken[0])}"


def _broken(trials: list[Trial]) -> list[Trial]:
    """The trials whose ends say nothing of what fits."""
    return [trial for trial in trials if isinstance(trial.outcome, BROKEN) or _lacks_shared_memory(trial.outcome)]


def _lacks_shared_memory(outcome: Outcome) -> bool:
    return isinstance(outcome, OutOfMemory) and outcome.place is Place.SHARED


def _counts(broken: list[Trial]) -> str:
    counts = Counter(_called(trial.outcome) for trial in broken)
    return ", ".join(f"{count} {words}" for words, count in counts.most_common())


def _called(outcome: Outcome) -> str:
    return CALLED[type(outcome)] if isinstance(outcome, BROKEN) else "without shared memory"


def _told(trial: Trial) -> str:
    outcome = trial.outcome
    if isinstance(outcome, BROKEN):
        return f"{trial.strategy}: {broken_text(outcome)}"
    return f"{trial.strategy}: /dev/shm is full: {LARGER_SHARED_MEMORY}"
