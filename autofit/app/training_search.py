"""The search of a training of autofit's own, with the agent here, from the survey of its data to its end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from autofit.app.context import Context, Session
from autofit.app.estimation import ladder_of, with_rehearsals
from autofit.app.last_resorts import LastResorts
from autofit.app.opened_training import opened
from autofit.app.resume import next_start
from autofit.app.row_watch import Outdated, RowWatch
from autofit.app.search_loop import SearchLoop, SearchResult
from autofit.app.search_space import SearchSpace
from autofit.app.trial_memory import TrialMemory, calibrate
from autofit.domain.goal import Certainty, Goal, TimeToEnd
from autofit.domain.outcome import Outcome
from autofit.domain.request import SearchOptions
from autofit.domain.strategy import Strategy
from autofit.domain.workload import DataProfile
from autofit.inputs.training_checkpoint import read_checkpoint
from autofit.planning.data.step_count import step_count
from autofit.planning.search.rating import check_ladder
from autofit.running.standby import Standby


def search_training(
    context: Context,
    session: Session,
    options: SearchOptions,
    standby: Standby,
    tried: tuple[tuple[Strategy, Outcome], ...] = (),
) -> tuple[Context, SearchResult]:
    """Searches, and frees the machine before it returns but for the launcher that stands by for the training; the
    context has the model described. `tried` is what was seen of the space before.

    UsageError when something of the model or the data must be changed first.
    """
    with opened(context, session, standby.start, may_foresee=True) as there:  # beside the agent's own imports
        watch = RowWatch(there, session)
        ended = None
        while ended is None:
            with suppress(Outdated):  # the next search knows the rows as they are
                ended = _searched(watch, session, options, standby, tried)
        _learn(ended, session, watch.there.memory, were_foreseen=there.profile.is_foreseen)
        return replace(there.context, setting=ended.setting), ended


def _searched(
    watch: RowWatch,
    session: Session,
    options: SearchOptions,
    standby: Standby,
    tried: tuple[tuple[Strategy, Outcome], ...],
) -> SearchResult:
    """One search, by what is known of the rows; Outdated when they turn out to be others, at its end at the latest."""
    there = watch.there
    ladder = ladder_of(there.setting)
    check_ladder(ladder, there.setting)
    setting = with_rehearsals(there.setting, ladder)
    runner = there.runner(setting, session, options.probe_timeout_s)
    space = SearchSpace(setting, ladder, _goal(there.context, there.profile, options, session), tried)
    resorts = LastResorts(there.store, there.tracing, runner)
    loop = SearchLoop(space, runner, session, there.memory, rehearsals=runner, resorts=resorts)
    standby.settle()
    ended = loop.run(is_exhaustive=options.is_exhaustive, before_each=watch.look)
    watch.look(is_awaited=True)
    return ended


def _goal(context: Context, profile: DataProfile, options: SearchOptions, session: Session) -> Goal:
    """What the search is for; the steps that a checkpoint has behind it count no more."""
    if options.tolerance is not None:
        return Certainty(options.tolerance)
    resumed = next_start(context.request, session.folder)
    done = 0 if resumed is None else read_checkpoint(resumed).step
    return TimeToEnd(max(1, step_count(context.request, profile.example_count) - done))


def _learn(ended: SearchResult, session: Session, memory: TrialMemory, *, were_foreseen: bool) -> None:
    """Remembers what the trials say, for the next search; `were_foreseen`: the rows, while they were tried."""
    if ended.is_contradicted:
        memory.replace(ended.trials)
    elif were_foreseen:
        for trial in ended.trials:  # kept by a sample's lengths until now
            memory.remember(trial)
    calibrate(ended.setting, ended.trials, memory.store)
    if memory.store.trouble is not None:
        session.tell(memory.store.trouble)
