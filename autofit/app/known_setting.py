"""The setting of a run whose search is over, by what its folder and the store have kept."""

from __future__ import annotations

from dataclasses import replace

from autofit.app.context import Context, Session, described
from autofit.app.estimation import assumed_setting, prepare_setting, setting_of_data
from autofit.app.tracing import TraceProvider
from autofit.hardware.requirements import installed_here


def with_known_setting(context: Context, session: Session) -> Context:
    """The context with its setting: the one of its search, or, where an earlier command has searched, the one that the
    survey and the traces give that are remembered."""
    if context.setting is not None:
        return context
    tools, profile = session.tools, session.folder.read_profile()
    with (
        tools.open_store() as store,
        TraceProvider(context.request, store, tools.start_tracer, session.tell, session.tell) as tracing,
    ):
        context = described(context, tracing, session)
        installed = installed_here()
        if profile is None:
            setting = assumed_setting(context, installed)
        else:
            setting = setting_of_data(context, profile, installed)
        return replace(context, setting=prepare_setting(setting, store, tracing))
