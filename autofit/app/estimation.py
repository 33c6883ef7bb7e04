"""What estimates are made of before anything is tried: the setting of a request, and the ladder of a setting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from autofit.app.context import Context
from autofit.app.tracing import TraceProvider
from autofit.app.trial_memory import known_constants
from autofit.domain.errors import UsageError
from autofit.domain.knobs.attention import ATTENTION, Attention
from autofit.domain.ladder import Ladder
from autofit.domain.model import Lacking
from autofit.domain.strategy import Rung
from autofit.domain.workload import DataProfile
from autofit.hardware.requirements import OPTIONAL, pip_command
from autofit.planning.data.batch_widths import is_padded
from autofit.planning.memory.activations import wanted_micro_steps
from autofit.planning.plan.last_resorts import resort_rungs
from autofit.planning.plan.rehearsal import how_many
from autofit.planning.setting import Setting
from autofit.planning.space.axes import rungs, settle
from autofit.planning.space.ladder_builder import build_ladder, is_between, worth_tracing
from autofit.process.pinned_allocator import has_exact_pins
from autofit.store import Store

ALL_INSTALLED = frozenset(one.package for one in OPTIONAL)
"""What a described machine is taken to have."""


def package_note(setting: Setting) -> str | None:
    """What is said where kernels that the model would call here are not installed; None where none is missing."""
    lacking = set(setting.called_packages) - setting.installed
    missing = [one for one in OPTIONAL if one.package in lacking]
    if not missing:
        return None
    names = ", ".join(one.package for one in missing)
    return (
        f"{names}: not installed, so torch's operators stand in, which take many times as much memory and time "
        f"({pip_command(missing)})"
    )


def ladder_of(setting: Setting) -> Ladder:
    """The ladder of a setting, its settled knobs at their best; UsageError for what cannot be asked for."""
    return build_ladder(setting, settle(setting))


def assumed_setting(context: Context, installed: frozenset[str] = frozenset()) -> Setting:
    """The setting by the request alone: rows are as long as it allows, and some of them shorter, so that there is a
    mask."""
    tokens = context.request.sequence_length
    return Setting(
        context.request,
        context.hardware,
        context.shape,
        tokens,
        is_padded=True,
        installed=installed,
        has_exact_pins=has_exact_pins(),
        facts=context.facts,
        reward_models=tuple(model.shape for model in context.reward_models if model.shape is not None),
    )


def setting_of_data(context: Context, profile: DataProfile, installed: frozenset[str]) -> Setting:
    """The setting by what the data brings."""
    lengths_tokens = profile.sampled_lengths_tokens
    return replace(
        assumed_setting(context, installed),
        worst_tokens=profile.longest_tokens,
        is_padded=is_padded(profile, context.request.task.traits.sequences_per_row),
        mean_tokens=sum(lengths_tokens) / len(lengths_tokens),
    )


def prepare_setting(setting: Setting, store: Store, tracing: TraceProvider) -> Setting:
    """The setting with all that is remembered of such devices and all traces that its rungs want."""
    known = replace(setting, known_constants=known_constants(setting.hardware, store))
    tried = usable_rungs(known)
    # What is between checkpointing and none is only traced where, by the others' traces, it may be tried.
    found = _traced([rung for rung in tried if not is_between(rung, known)], known, tracing)
    if not tried or usable_rungs(found):
        return _traced(worth_tracing(usable_rungs(found), found), found, tracing)
    without = _without_kernel(found, tried[0].attention)
    again = found if without is None else prepare_setting(without, store, tracing)
    return again if usable_rungs(again) else found  # else it was not the kernel


def _traced(wanted: Iterable[Rung], setting: Setting, tracing: TraceProvider) -> Setting:
    """The setting with the traces that these rungs want, beside those that it has."""
    known = {trace.of for trace in setting.traces}
    missing = [step for step in wanted_micro_steps(wanted, setting) if step not in known]
    found = tracing.traces(missing) if missing else ()
    return replace(setting, traces=(*setting.traces, *found), unbuildable=tracing.unbuildable)


def with_resort_traces(setting: Setting, tracing: TraceProvider) -> Setting:
    """The setting with the traces, too, that the last resorts want which are not tried."""
    try:
        rungs_left = resort_rungs(setting, settle(setting))
    except UsageError:
        return setting
    return _traced(rungs_left, setting, tracing)


def with_rehearsals(setting: Setting, ladder: Ladder) -> Setting:
    """The setting with rehearsals, where there are other ranks to be played and something to rehearse."""
    estimates = [step.estimates[0] for step in ladder.steps]
    if not setting.is_divided or not estimates:
        return setting
    return replace(setting, rehearsal_count=how_many(estimates, setting, setting.hardware))


def _without_kernel(setting: Setting, attention: Attention) -> Setting | None:
    """The setting without the kernel that all rungs share, with which no model could be built; None where it is pinned,
    or where the model's class was not asked."""
    facts = setting.facts
    if facts is None or setting.request.pins.of(ATTENTION) is not None:
        return None
    lacks = Lacking(ATTENTION.name, ATTENTION.of(attention).word, setting.unbuildable[-1].why)
    return replace(setting, facts=replace(facts, lacking=(*facts.lacking, lacks)))


def usable_rungs(setting: Setting) -> tuple[Rung, ...]:
    """The rungs to try, memory aside; none where the device lacks what is pinned."""
    try:
        return rungs(setting, settle(setting))
    except UsageError:
        return ()
