"""Predicted memory of a strategy on one device and on one node's host: the largest of all moments of a training."""

from __future__ import annotations

from collections.abc import Sequence

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.outcome import Measured, Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Moment
from autofit.planning.plain_torch import has_communicator, is_plain
from autofit.planning.setting import Setting

from .activations import moments
from .closed_activations import closed_moments
from .fused_memory import fused_loads
from .generation_memory import closed_generation, generation_loads
from .host_memory import host_estimate
from .interval import high_bytes, low_bytes
from .load import Load
from .micro_step_memory import largest_within
from .offloaded import offloaded
from .plain_memory import plain_loads
from .step_memory import loads_outside


def estimate_memory(strategy: Strategy, setting: Setting, *, is_rehearsal: bool = False) -> MemoryEstimate:
    """The breakdown at the peak, whose parts sum to it, and the interval of the true peak.

    A rehearsal is the first rank alone, without a communicator; otherwise the worst rank counts. What the allocator
    loses between tensors stands under `runtime_bytes`.
    """
    key = (estimate_memory, strategy, is_rehearsal)
    return setting.once(key, lambda: _estimate_memory(strategy, setting, is_rehearsal))


def _estimate_memory(strategy: Strategy, setting: Setting, is_rehearsal: bool) -> MemoryEstimate:
    traced = moments(strategy, setting)
    steps = traced or (*closed_generation(strategy, setting), *closed_moments(strategy, setting))
    loads = [*generation_loads(strategy, setting, steps), *_loads(strategy, setting, steps, is_rehearsal)]
    # DeepSpeed starts with less where less is free, and how far it fetches ahead is its own affair.
    needed = [load.least for load in loads if load.phase is not Phase.INITIALIZE]
    peak = max(loads, key=lambda load: load.total_bytes)
    is_alone = is_rehearsal or not has_communicator(strategy.rung, setting)
    return MemoryEstimate(
        parameters_bytes=peak.parameters_bytes + setting.buffers_bytes,
        gradients_bytes=peak.gradients_bytes,
        optimizer_bytes=peak.optimizer_bytes,
        activations_bytes=peak.activations_bytes,
        buffers_bytes=peak.buffers_bytes,
        runtime_bytes=_runtime_bytes(setting, peak, is_alone),
        low_bytes=low_bytes(strategy, setting, needed, is_traced=traced is not None),
        high_bytes=high_bytes(strategy, setting, loads, is_alone, is_traced=traced is not None),
        host=host_estimate(strategy, setting, peak.total_bytes),
        phase=peak.phase,
        kept_share=None if setting.split is None else setting.split.device_share,
    )


def _loads(strategy: Strategy, setting: Setting, steps: Sequence[Moment], is_rehearsal: bool) -> list[Load]:
    """The loads of a training but for those of a generation."""
    if strategy.rung.optimizer.is_fused:
        return [*fused_loads(strategy, setting, _trained(steps))]
    if is_plain(strategy.rung, setting):
        return [*plain_loads(strategy, setting, _trained(steps))]
    ranks = _ranks(strategy, is_rehearsal)
    return [*loads_outside(strategy, setting), *largest_within(strategy, setting, steps, ranks)]


def _trained(steps: Sequence[Moment]) -> list[Moment]:
    return [moment for moment in steps if moment.phase is not Phase.GENERATE]


def is_whole_peak(measured: Measured, estimate: MemoryEstimate) -> bool:
    """Whether a probe came to the moment at which `estimate` has its peak; else a training takes what was measured at
    least."""
    return not measured.is_outpaced or estimate.phase not in (Phase.EVALUATE, Phase.SAVE)


def _ranks(strategy: Strategy, is_rehearsal: bool) -> tuple[bool, ...]:
    """The ranks that are looked at, by whether it is the first one: where ZeRO divides gradients by tensors, the last
    one's come at another time."""
    return (True, False) if strategy.rung.zero_stage in (1, 2) and not is_rehearsal else (True,)


def offloaded_bytes(strategy: Strategy, setting: Setting) -> int:
    """What all ranks of the fullest node keep in host memory throughout, without what pinning rounds up."""
    return setting.ranks_per_node * offloaded(strategy, setting).payload_bytes


def _runtime_bytes(setting: Setting, peak: Load, is_alone: bool) -> int:
    constants = setting.constants
    lost_bytes = round((constants.fragmentation - 1) * (peak.total_bytes + setting.buffers_bytes))
    return constants.runtime_bytes + lost_bytes + (0 if is_alone else constants.communicator_bytes)
