"""The search of a training of autofit's own, with the agent here, from the survey of its data to its end."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from autofit.app.context import Context, Session, described
from autofit.app.estimation import ladder_of, package_note, prepare_setting, setting_of_data, with_rehearsals
from autofit.app.last_resorts import LastResorts
from autofit.app.probe_specs import AgentProbeRunner, ProbeSpecs
from autofit.app.search_loop import SearchLoop, SearchResult
from autofit.app.search_space import SearchSpace
from autofit.app.tracing import TraceProvider
from autofit.app.trial_memory import TrialMemory, calibrate
from autofit.domain.event import DataRead
from autofit.domain.goal import Certainty, Goal, TimeToEnd
from autofit.domain.outcome import Outcome
from autofit.domain.request import SearchOptions
from autofit.domain.strategy import Strategy
from autofit.domain.workload import DataProfile
from autofit.hardware.requirements import installed_here
from autofit.inputs.training_checkpoint import read_checkpoint
from autofit.planning.data.step_count import step_count
from autofit.planning.data.truncation import check_lost_rows
from autofit.planning.search.rating import check_ladder
from autofit.probing.prober import TrainingProber
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
    folder, tools, kind = session.folder, session.tools, context.hardware.kind
    with (
        tools.start_agent(kind=kind, log_path=folder.logs / "agent.log", tell=session.tell) as agent,
        tools.open_store() as store,
        tempfile.TemporaryDirectory(prefix="scratch-", dir=folder.root) as scratch,
        # The agent is warm already, so it traces, too.
        TraceProvider(
            context.request, store, lambda log_path: nullcontext(agent), session.tell, session.tell
        ) as tracing,
    ):
        standby.start()  # beside the agent, which imports on one core
        context = described(context, tracing, session)
        profile = _surveyed(context, session, agent)
        setting = prepare_setting(setting_of_data(context, profile, installed_here()), store, tracing)
        if (note := package_note(setting)) is not None:
            session.tell(note)
        ladder = ladder_of(setting)
        check_ladder(ladder, setting)
        setting = with_rehearsals(setting, ladder)
        context = replace(context, setting=setting)
        memory = TrialMemory.of(setting, profile.lengths, store)
        runner = AgentProbeRunner(agent, ProbeSpecs(context, profile, folder, Path(scratch), options.probe_timeout_s))
        space = SearchSpace(setting, ladder, _goal(context, profile, options), tried)
        resorts = LastResorts(store, tracing, runner)
        loop = SearchLoop(space, runner, session, memory, rehearsals=runner, resorts=resorts)
        standby.settle()
        ended = loop.run(is_exhaustive=options.is_exhaustive)
        _learn(ended, session, memory)
        return replace(context, setting=ended.setting), ended


def _surveyed(context: Context, session: Session, agent: TrainingProber) -> DataProfile:
    """The profile of the data; UsageError when more of its rows would be lost than the request allows."""
    profile = agent.survey(context.request, log_path=session.folder.logs / "survey.log")
    session.folder.write_profile(profile)
    session.screen.show(DataRead(context.request, profile))
    check_lost_rows(context.request, profile)
    return profile


def _goal(context: Context, profile: DataProfile, options: SearchOptions) -> Goal:
    """What the search is for; the steps that a checkpoint has behind it count no more."""
    if options.tolerance is not None:
        return Certainty(options.tolerance)
    resumed = context.request.training.resume
    done = 0 if resumed is None else read_checkpoint(resumed).step
    return TimeToEnd(max(1, step_count(context.request, profile.example_count) - done))


def _learn(ended: SearchResult, session: Session, memory: TrialMemory) -> None:
    """Remembers what the trials say, for the next search."""
    if ended.is_contradicted:
        memory.replace(ended.trials)
    calibrate(ended.setting, ended.trials, memory.store)
    if memory.store.trouble is not None:
        session.tell(memory.store.trouble)
