"""The ladder of one request on one machine: the rungs to try, the best by prediction first, and why not the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from autofit.domain.estimate import Estimate, MemoryEstimate
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.offload import OFFLOAD, Offload
from autofit.domain.ladder import Ladder, LeftOut, Step
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.units import format_bytes
from autofit.planning.data.step_count import prompts_per_step
from autofit.planning.gradient_clipping import gradient_clipping
from autofit.planning.memory.device_share import is_divided, sized_for, why_undivided
from autofit.planning.memory.interval import HEADROOM
from autofit.planning.memory.peak_memory import estimate_memory, offloaded_bytes
from autofit.planning.micro_batches import accumulation, asked_micro_batches
from autofit.planning.predicted_merit import predicted_merit
from autofit.planning.setting import Setting
from autofit.planning.speed.step_time import estimate_speed

from .axes import Settled, check_pins, combinations, plainness, rungs, settle


def check_asked(setting: Setting) -> None:
    """Checks what can be told of a request before any rung is estimated; UsageError as `settle`, `build_ladder`,
    `prompts_per_step` and `gradient_clipping`."""
    settle(setting)
    check_pins(setting)
    if setting.request.task.traits.generates:
        prompts_per_step(setting.request)
    asked_micro_batches(setting.request, setting.rank_count)
    gradient_clipping(setting.request.training.extra_arguments)


def build_ladder(setting: Setting, settled: Settled) -> Ladder:
    """Builds the ladder; UsageError when the ranks cannot share the global batch or the pins exclude each other.

    A ladder without steps is no error: then everything is predicted not to fit, and `left_out` says by how much.
    """
    check_pins(setting)
    steps, left_out = [], []
    for rung, found in combinations(setting, settled):
        step = make_step(rung, setting)
        why = found or why_useless(step, setting)
        out = LeftOut(rung, why) if why else _left_out(step, setting)
        if out is None:
            steps.append(step)
        else:
            left_out.append(out)
    steps.sort(key=lambda step: (-_best_merit(step, setting), plainness(step.rung)))
    return Ladder(setting.device_memory_bytes, tuple(steps), (*left_out, *_others(setting, settled)))


def strategies_of(rung: Rung, setting: Setting) -> tuple[Strategy, ...]:
    """The rung with each micro-batch that divides the global batch; UsageError as `micro_batches`."""
    batch, rank_count = setting.request.global_batch, setting.rank_count
    sizes = asked_micro_batches(setting.request, rank_count)
    return tuple(Strategy(rung, size, accumulation(batch, rank_count, size)) for size in sizes)


def make_step(rung: Rung, setting: Setting) -> Step:
    """The rung with each micro-batch that is worth a try; UsageError as `strategies_of`."""
    strategies = strategies_of(rung, setting)
    if rung.offload is Offload.PARTIAL:  # with none of it on the device it is the whole that is offloaded
        strategies = tuple(strategy for strategy in strategies if is_divided(strategy, setting)) or strategies
    if is_between(rung, setting):  # what does less work and surely fits leaves it no micro-batch
        strategies = tuple(one for one in strategies if not _surely_fits(_plainer(one), setting)) or strategies
    return Step(rung, strategies, tuple(estimate_of(strategy, setting) for strategy in strategies))


def useful_steps(setting: Setting, settled: Settled) -> Iterator[Step]:
    """The rungs to try, whether they fit or not."""
    steps = (make_step(rung, setting) for rung in rungs(setting, settled))
    return (step for step in steps if why_useless(step, setting) is None)


def why_useless(step: Step, setting: Setting) -> str | None:
    """Why a rung that works is not tried beside its neighbours, unless it is pinned; None where it is."""
    if is_between(step.rung, setting) and all(_surely_fits(_plainer(one), setting) for one in step.strategies):
        plainer = _plainer(step.leanest).rung.gradient_checkpointing
        return f"{GRADIENT_CHECKPOINTING.of(plainer).text} surely fits, and does less work"
    if step.rung.offload is Offload.PARTIAL and setting.request.pins.of(OFFLOAD) is None:
        return why_undivided(step.strategies, setting)
    return None


def worth_tracing(tried: Iterable[Rung], setting: Setting) -> tuple[Rung, ...]:
    """Those of the rungs that, by the traces that there are, are not left out for a neighbour that surely fits."""
    return tuple(rung for rung in tried if not is_between(rung, setting) or not _is_idle(rung, setting))


def _is_idle(rung: Rung, setting: Setting) -> bool:
    """Whether what does less work surely fits with each micro-batch."""
    return all(_surely_fits(_plainer(one), setting) for one in strategies_of(rung, setting))


def is_between(rung: Rung, setting: Setting) -> bool:
    """Whether it is between checkpointing and none, or beyond, without being pinned, and has nothing for itself where
    what does less work fits: memory that is left over counts for nothing."""
    is_free = setting.request.pins.of(GRADIENT_CHECKPOINTING) is None and not setting.request.objective.counts_memory
    return rung.gradient_checkpointing.is_between and is_free


def _plainer(strategy: Strategy) -> Strategy:
    """The same with the next value of checkpointing that certainly does less work."""
    is_moved = strategy.rung.gradient_checkpointing is GradientCheckpointing.OFFLOAD
    less = GradientCheckpointing.ON if is_moved else GradientCheckpointing.OFF
    return replace(strategy, rung=replace(strategy.rung, gradient_checkpointing=less))


def _surely_fits(strategy: Strategy, setting: Setting) -> bool:
    """Whether it fits even if all that is uncertain of its memory is there."""
    return memory_of(strategy, setting).high_bytes <= (1 - HEADROOM) * setting.device_memory_bytes


def memory_of(strategy: Strategy, setting: Setting) -> MemoryEstimate:
    """What is predicted of a strategy's memory alone, which takes less time than `estimate_of`."""
    return estimate_memory(strategy, sized_for(strategy, setting))


def estimate_of(strategy: Strategy, setting: Setting) -> Estimate:
    """What is predicted of a strategy, whether it stands on a ladder or not."""
    return setting.once((Estimate, strategy), lambda: _estimated(strategy, setting))


def _estimated(strategy: Strategy, setting: Setting) -> Estimate:
    sized = sized_for(strategy, setting)
    return Estimate(estimate_memory(strategy, sized), estimate_speed(strategy, sized))


def _left_out(step: Step, setting: Setting) -> LeftOut | None:
    """The rungs that are left out: only what cannot fit even if every uncertain byte is absent."""
    short_bytes = step.estimate(step.leanest).memory.low_bytes - setting.device_memory_bytes
    if short_bytes > 0:
        return LeftOut(step.rung, f"too large by {format_bytes(short_bytes)} (predicted)", short_bytes=short_bytes)
    host_short_bytes = offloaded_bytes(step.strategies[0], setting) - setting.host_available_bytes
    if host_short_bytes > 0:
        reason = f"host memory is short by {format_bytes(host_short_bytes)} (predicted)"
        return LeftOut(step.rung, reason, host_short_bytes=host_short_bytes)
    return None


def _others(setting: Setting, settled: Settled) -> Iterator[LeftOut]:
    """The ladder's rungs with values that work but are never faster."""
    tried = rungs(setting, settled)
    for other in settled.others:
        if not other.is_better:
            yield from (LeftOut(other.of(rung), other.why) for rung in tried)


def _best_merit(step: Step, setting: Setting) -> float:
    """The best merit, by what is looked for, of the micro-batches that are predicted to fit, or else of the smallest
    (the logarithm, rounded to 1 %)."""
    limit_bytes, objective = setting.device_memory_bytes, setting.request.objective
    fitting = [estimate for estimate in step.estimates if estimate.memory.peak_bytes <= limit_bytes]
    best = max(predicted_merit(estimate, objective) for estimate in fitting or step.estimates[:1])
    return round(math.log(best), 2)
