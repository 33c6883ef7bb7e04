"""A training opened for probes: the agent that runs them here, and all that is known before the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from autofit.app.context import Context, Session, described
from autofit.app.estimation import package_note, prepare_setting, setting_of_data
from autofit.app.probe_specs import AgentProbeRunner, ProbeSpecs
from autofit.app.tracing import TraceProvider
from autofit.app.trial_memory import TrialMemory
from autofit.domain.event import DataRead, SurveyProgress
from autofit.domain.workload import DataProfile
from autofit.hardware.requirements import installed_here
from autofit.planning.data.batch_widths import has_same_width
from autofit.planning.data.survey_cores import survey_cores
from autofit.planning.data.truncation import check_lost_rows
from autofit.planning.setting import Setting
from autofit.probing.prober import TrainingProber
from autofit.store import Store

PATIENCE_S = 5.0
"""So long the search waits for all rows to be counted before it begins with what a sample foretells."""


@dataclass(frozen=True)
class OpenedTraining:
    """`context` has the model described; `scratch` is a folder for what probes write."""

    context: Context
    setting: Setting
    profile: DataProfile
    agent: TrainingProber
    store: Store
    tracing: TraceProvider
    scratch: Path

    def counted(self, session: Session, *, is_awaited: bool) -> OpenedTraining:
        """This training with all its rows counted, if they are by now: they are waited for where that `is_awaited`.

        UsageError when something of the data must be changed first.
        """
        profile = self.agent.surveyed(is_awaited=is_awaited) if self.profile.is_foreseen else None
        if profile is None:
            return self
        _take(profile, self.context, session)
        setting = setting_of_data(self.context, profile, installed_here())
        return replace(self, profile=profile, setting=prepare_setting(setting, self.store, self.tracing))

    @property
    def memory(self) -> TrialMemory:
        return TrialMemory.of(self.setting, self.profile.lengths, self.store)

    def runner(self, setting: Setting, session: Session, heartbeat_timeout_s: float) -> AgentProbeRunner:
        """Runs the probes of strategies as `setting` has them."""
        context = replace(self.context, setting=setting)
        specs = ProbeSpecs(context, self.profile, session.folder, self.scratch, heartbeat_timeout_s)
        return AgentProbeRunner(self.agent, specs)


@contextmanager
def opened(
    context: Context, session: Session, meanwhile: Callable[[], None] = lambda: None, *, may_foresee: bool = False
) -> Iterator[OpenedTraining]:
    """Opens a training, and frees the machine at the end of `with`; `meanwhile` is called while the agent starts.

    `may_foresee`: rows that take long to count are foreseen by a sample, if there are cores to count them on meanwhile.

    UsageError when something of the model or the data must be changed first.
    """
    folder, tools, kind = session.folder, session.tools, context.hardware.kind
    with (
        tools.start_agent(kind=kind, log_path=folder.logs / "agent.log", tell=session.tell) as agent,
        tools.open_store() as store,
        folder.scratch() as scratch,
        # The agent is warm already, so it traces, too.
        TraceProvider(
            context.request, store, lambda log_path: nullcontext(agent), session.tell, session.tell
        ) as tracing,
    ):
        meanwhile()
        context = described(context, tracing, session)
        profile = _surveyed(context, session, agent, may_foresee=may_foresee)
        setting = prepare_setting(setting_of_data(context, profile, installed_here()), store, tracing)
        if (note := package_note(setting)) is not None:
            session.tell(note)
        yield OpenedTraining(context, setting, profile, agent, store, tracing, scratch)


def _surveyed(context: Context, session: Session, agent: TrainingProber, *, may_foresee: bool) -> DataProfile:
    """The profile of the data; UsageError when more of its rows would be lost than the request allows."""
    cores = survey_cores(context.hardware)
    profile = agent.survey(
        context.request,
        log_path=session.folder.logs / "survey.log",
        most_processes=cores.process_count,
        patience_s=PATIENCE_S if may_foresee and cores.is_beside else None,
        on_rows=lambda made: session.screen.show(SurveyProgress(made.done_rows, made.row_count)),
    )
    _take(profile, context, session)
    if profile.is_foreseen:
        session.tell(
            "the rows are many, and are counted meanwhile: until then the data is what a sample of it foretells, "
            f"and the longest row is taken to have {profile.longest_tokens:,} tokens, as --seq allows"
        )
    return profile


def _take(profile: DataProfile, context: Context, session: Session) -> None:
    """Writes the profile down and shows it; trials of batches of another width are set aside."""
    before = session.folder.read_profile()
    if before is not None and not has_same_width(before, profile, context.hardware.kind):
        session.folder.set_trials_aside(session.tell)
    session.folder.write_profile(profile)
    session.screen.show(DataRead(context.request, profile))
    check_lost_rows(context.request, profile)
