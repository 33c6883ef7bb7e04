"""What a search goes on with where nothing fits as it was asked for: the next last resort, if all are allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autofit.app.estimation import ladder_of, prepare_setting, with_rehearsals, with_resort_traces
from autofit.app.probe_specs import AgentProbeRunner
from autofit.app.search_space import SearchSpace, Wider
from autofit.app.tracing import TraceProvider
from autofit.domain.resort import Resort
from autofit.domain.trial import Trial
from autofit.planning.plan.last_resorts import next_resort, with_resort
from autofit.planning.search.giving_up import named_resorts
from autofit.planning.space.axes import settle
from autofit.store import Store


@dataclass(frozen=True)
class LastResorts:
    """The last resorts of one search, with the traces that they want; `runner` runs its probes."""

    store: Store
    tracing: TraceProvider
    runner: AgentProbeRunner

    def wider(self, space: SearchSpace) -> Wider | None:
        order = next_resort(space.setting, settle(space.setting))
        if order is None:
            return None
        setting = prepare_setting(with_resort(space.setting, order), self.store, self.tracing)
        ladder = ladder_of(setting)
        setting = with_rehearsals(setting, ladder)
        runner = self.runner.within(setting)
        return Wider(order, replace(space, setting=setting, ladder=ladder), runner, runner)

    def named(self, space: SearchSpace, trials: Sequence[Trial]) -> tuple[Resort, ...]:
        return named_resorts(space.ladder, trials, with_resort_traces(space.setting, self.tracing))
