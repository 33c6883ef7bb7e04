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
from autofit.domain.event import DataRead
from autofit.domain.workload import DataProfile
from autofit.hardware.requirements import installed_here
from autofit.planning.data.truncation import check_lost_rows
from autofit.planning.setting import Setting
from autofit.probing.prober import TrainingProber
from autofit.store import Store


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
    context: Context, session: Session, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[OpenedTraining]:
    """Opens a training, and frees the machine at the end of `with`; `meanwhile` is called while the agent starts.

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
        profile = _surveyed(context, session, agent)
        setting = prepare_setting(setting_of_data(context, profile, installed_here()), store, tracing)
        if (note := package_note(setting)) is not None:
            session.tell(note)
        yield OpenedTraining(context, setting, profile, agent, store, tracing, scratch)


def _surveyed(context: Context, session: Session, agent: TrainingProber) -> DataProfile:
    """The profile of the data; UsageError when more of its rows would be lost than the request allows."""
    profile = agent.survey(context.request, log_path=session.folder.logs / "survey.log")
    session.folder.write_profile(profile)
    session.screen.show(DataRead(context.request, profile))
    check_lost_rows(context.request, profile)
    return profile
