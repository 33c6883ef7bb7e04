"""The search of a training of autofit's own, with the agent here, from the survey of its data to its end."""

from __future__ import annotations

from dataclasses import replace

from autofit.app.context import Context, Session
from autofit.app.estimation import ladder_of, with_rehearsals
from autofit.app.last_resorts import LastResorts
from autofit.app.opened_training import opened
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
    with opened(context, session, standby.start) as there:  # beside the agent, which imports on one core
        ladder = ladder_of(there.setting)
        check_ladder(ladder, there.setting)
        setting = with_rehearsals(there.setting, ladder)
        context = replace(there.context, setting=setting)
        memory, runner = there.memory, there.runner(setting, session, options.probe_timeout_s)
        space = SearchSpace(setting, ladder, _goal(context, there.profile, options, session), tried)
        resorts = LastResorts(there.store, there.tracing, runner)
        loop = SearchLoop(space, runner, session, memory, rehearsals=runner, resorts=resorts)
        standby.settle()
        ended = loop.run(is_exhaustive=options.is_exhaustive)
        _learn(ended, session, memory)
        return replace(context, setting=ended.setting), ended


def _goal(context: Context, profile: DataProfile, options: SearchOptions, session: Session) -> Goal:
    """What the search is for; the steps that a checkpoint has behind it count no more."""
    if options.tolerance is not None:
        return Certainty(options.tolerance)
    resumed = session.folder.last_checkpoint or context.request.training.resume
    done = 0 if resumed is None else read_checkpoint(resumed).step
    return TimeToEnd(max(1, step_count(context.request, profile.example_count) - done))


def _learn(ended: SearchResult, session: Session, memory: TrialMemory) -> None:
    """Remembers what the trials say, for the next search."""
    if ended.is_contradicted:
        memory.replace(ended.trials)
    calibrate(ended.setting, ended.trials, memory.store)
    if memory.store.trouble is not None:
        session.tell(memory.store.trouble)
