"""A plan rehearsed: rank 0 of its best candidates, on the devices of the machine here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

from autofit.app.context import Context
from autofit.app.estimation import assumed_setting
from autofit.app.machine_order import MachineOrder
from autofit.app.probe_specs import ProbeSpecs
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.app.trial_memory import known_constants
from autofit.domain.ending import broken_text
from autofit.domain.event import Tell
from autofit.domain.knobs.attention import runs_flash
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.outcome import Measured, Outcome, OutOfMemory
from autofit.domain.plan import Candidate, Plan
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.domain.units import format_bytes, format_seconds
from autofit.domain.workload import DataProfile
from autofit.hardware.requirements import installed_here
from autofit.planning.plan.rehearsal import how_many
from autofit.planning.plan.rehearsal_site import MemoryShortfall, RehearsalSite
from autofit.planning.plan.replan import is_telling, replan, rivals
from autofit.planning.setting import Setting
from autofit.probing.prober import TrainingProber
from autofit.process.temporary_folder import temporary_folder
from autofit.runs.run_folder import RunFolder
from autofit.store import Store


def rehearse(
    plans: Sequence[Plan],
    *,
    tell: Tell,
    heartbeat_timeout_s: float = 600.0,
    order: MachineOrder | None = None,
    tools: Tools = REAL_TOOLS,
) -> tuple[Plan, ...]:
    """Each plan with its best candidates measured here, the best plan first; `tell` hears how each one ended.

    `plans` are those of one request, one at least; its --ranks says how many of the devices here are used. Nothing is
    left running, however it ends.
    """
    # --memory-limit counts as a part of the machine planned for; --ranks is for the machine here alone.
    here = tools.detect(Path(), ranks=plans[0].request.ranks)
    with ExitStack() as open_here, tools.open_store() as store:
        folder = open_here.enter_context(temporary_folder("autofit-rehearsal-"))

        @cache
        def agent() -> TrainingProber:  # takes seconds to start, and where nothing can be built here it is not needed
            return open_here.enter_context(tools.start_agent(kind=here.kind, log_path=folder / "agent.log", tell=tell))

        has_flash = runs_flash(here, Dtype.BF16, installed_here())
        sites = [RehearsalSite(_setting(plan, store), here, has_flash) for plan in plans]
        rehearsings = [
            _Rehearsing(plan, site, RunFolder(folder / str(number)), agent, tell, heartbeat_timeout_s)
            for number, (plan, site) in enumerate(zip(plans, sites, strict=True))
        ]
        return (order or MachineOrder()).best_first(rehearsing.run() for rehearsing in rehearsings)


def full_rows(tokens: int) -> DataProfile:
    """The rows as a plan takes the data to be: all rows `tokens` long but for a few, so that there is a mask."""
    return DataProfile("full rows", "text", 2, 0, tokens, tuple(sorted({max(1, tokens - 1), tokens})))


class _Rehearsing:
    """The rehearsals of one plan."""

    def __init__(
        self,
        plan: Plan,
        site: RehearsalSite,
        folder: RunFolder,
        agent: Callable[[], TrainingProber],
        tell: Tell,
        heartbeat_timeout_s: float,
    ) -> None:
        self._plan, self._site, self._agent, self._tell = plan, site, agent, tell
        self._trials: list[Trial] = []
        profile = full_rows(plan.request.sequence_length)
        folder.create()
        self._specs = ProbeSpecs(
            replace(_context(plan), setting=site.setting),
            profile,
            folder,
            folder.root / "scratch",
            heartbeat_timeout_s,
            here=site.limited,
        )

    def run(self) -> Plan:
        wanted = rivals(self._plan)
        lacking = {one.strategy: lack for one in wanted if (lack := self._lacks(one)) is not None}
        outcomes: dict[Strategy, Outcome] = {}
        for some in self._rounds([one for one in wanted if one.strategy not in lacking]):
            outcomes |= self._round(some)
        return replan(self._plan, outcomes, self._site, tuple(self._notes(lacking, outcomes)))

    def _lacks(self, one: Candidate) -> MemoryShortfall | None:
        assert one.estimate is not None
        return self._site.shortfalls(one.estimate)

    def _rounds(self, able: Sequence[Candidate]) -> Iterator[Sequence[Candidate]]:
        """The candidates in rounds: as many side by side as there are devices here and memory around them."""
        estimates = [one.estimate for one in able if one.estimate is not None]
        size = how_many(estimates, self._site.setting, self._site.limited)
        return (able[start : start + size] for start in range(0, len(able), size))

    def _round(self, some: Sequence[Candidate]) -> dict[Strategy, Outcome]:
        strategies = [one.strategy for one in some]
        specs = self._specs.rehearsals([self._site.playable(one) for one in strategies], self._trials)
        outcomes = self._agent().rehearse(specs, lambda strategy, phase: None)
        for one, spec, outcome in zip(some, specs, outcomes, strict=True):
            assert one.estimate is not None
            self._trials.append(Trial(spec.job.strategy, one.estimate, outcome, is_rehearsal=True))
            rank = f"rank 0 of {spec.job.rank_count}, {one.strategy}"
            self._tell(f"{rank}: {_end_text(outcome)} (in {format_seconds(outcome.total_s)})")
        return dict(zip(strategies, outcomes, strict=True))

    def _notes(
        self, lacking: Mapping[Strategy, MemoryShortfall], outcomes: Mapping[Strategy, Outcome]
    ) -> Iterator[str]:
        if any(self._site.playable(strategy) != strategy for strategy in outcomes):
            yield "torch's own attention kernel stood in for FlashAttention-2."
        if lacking:
            least = min(lacking.values(), key=lambda lack: lack.needs_bytes)
            needs, has = format_bytes(least.needs_bytes), format_bytes(least.has_bytes)
            why = f"{needs} or more of {least.place.value} memory may be needed, {has} are free here"
            yield f"Not rehearsed, estimated as before: {', '.join(map(str, lacking))}; {why}."
        for strategy, outcome in outcomes.items():
            if not is_telling(outcome, self._site):
                yield f"{strategy} {_end_text(outcome)}; it is estimated as before."


def _context(plan: Plan) -> Context:
    return Context(plan.request, plan.hardware, plan.model)


def _setting(plan: Plan, store: Store) -> Setting:
    """The setting that the plan was made in, but for what its rungs and their estimates came from: they are there."""
    return replace(assumed_setting(_context(plan)), known_constants=known_constants(plan.hardware, store))


def _end_text(outcome: Outcome) -> str:
    match outcome:
        case Measured():
            return f"took {format_bytes(outcome.peak_device_bytes)}"
        case OutOfMemory():
            return f"ran out of {outcome.place.value} memory in {outcome.phase.value}"
        case _:
            return f"did not run here ({broken_text(outcome).rstrip('.')})"
