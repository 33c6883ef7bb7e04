"""Predicted memory of a strategy on one device and on one node's host: the largest of all moments of a training."""

from __future__ import annotations

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.planning.prior_constants import context
from autofit.planning.setting import Setting

from .activations import HIGH_FACTOR, closed_moments, moments
from .host_memory import host_estimate
from .load import Load
from .micro_step_memory import loads_within
from .offloaded import offloaded
from .step_memory import loads_outside

RUNTIME_SPREAD = 0.15
"""How far that may err which a process holds beside its tensors, which grows with the kernels that it meets: 495 to 510
MB on CPU ranks where 500 were expected, and up to 60 MB more with many widths of rows. A GPU's, before any trial, has a
range of its own."""

LATE_KERNELS_BYTES = 150_000_000
"""What kernels of a GPU take at most that are loaded when they are first needed. Not measured yet:
benchmarks/gpu_check.py prints it under "driver memory"."""

TRACED_LOW, TRACED_HIGH = 0.97, 1.03
"""The factors of the tensors' bytes between which the truth lies, from benchmarks/memory_error.py: real peaks lay
between these times the prediction."""

WORST_FRAGMENTATION = 1.08
"""Reserved by allocated bytes at worst, in a replay of CUDA's caching allocator."""

FITTED_SPREAD = 0.02
"""How far the next fragmentation may lie above those that were fitted."""

WORST_COMMUNICATOR_BYTES = 1_000_000_000
"""NCCL's buffers at most (0.5 to 0.7 GB a group on 4 × A100), with the context's spread on top."""


def estimate_memory(strategy: Strategy, setting: Setting, *, is_rehearsal: bool = False) -> MemoryEstimate:
    """The breakdown at the peak, whose parts sum to it, and the interval of the true peak.

    A rehearsal is the first rank alone, without a communicator; otherwise the worst rank counts. What the allocator
    loses between tensors stands under `runtime_bytes`.
    """
    traced = moments(strategy, setting)
    steps = traced or closed_moments(strategy, setting)
    loads = [*loads_outside(strategy, setting)]
    for is_first_rank in _ranks(strategy, is_rehearsal):
        loads += loads_within(strategy, setting, steps, is_first_rank=is_first_rank)
    # DeepSpeed starts with less where less is free, and how far it fetches ahead is its own affair.
    needed = [load.least for load in loads if load.phase is not Phase.INITIALIZE]
    peak = max(loads, key=lambda load: load.total_bytes)
    is_alone = is_rehearsal or not setting.is_divided
    return MemoryEstimate(
        parameters_bytes=peak.parameters_bytes + setting.buffers_bytes,
        gradients_bytes=peak.gradients_bytes,
        optimizer_bytes=peak.optimizer_bytes,
        activations_bytes=peak.activations_bytes,
        buffers_bytes=peak.buffers_bytes,
        runtime_bytes=_runtime_bytes(setting, peak, is_alone),
        low_bytes=_low_bytes(setting, needed, is_traced=traced is not None),
        high_bytes=_high_bytes(setting, loads, is_alone, is_traced=traced is not None),
        host=host_estimate(strategy, setting, peak.total_bytes),
        phase=peak.phase,
    )


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


def _low_bytes(setting: Setting, loads: list[Load], *, is_traced: bool) -> int:
    """The least that the peak can be. Without a trace only what lasts is certain; nothing is lost between tensors."""
    if is_traced:
        return _runtime_range(setting)[0] + round(TRACED_LOW * max(load.total_bytes for load in loads))
    certain = [load.total_bytes - load.activations_bytes for load in loads]
    return _runtime_range(setting)[0] + round(TRACED_LOW * max(certain))


def _runtime_range(setting: Setting) -> tuple[int, int]:
    """The least and the most that the runtime takes (bytes)."""
    if setting.kind is DeviceKind.CUDA and setting.known_constants is None:
        known = context(setting.device)
        return known.least_bytes, known.most_bytes + LATE_KERNELS_BYTES
    return round((1 - RUNTIME_SPREAD) * setting.runtime_bytes), round((1 + RUNTIME_SPREAD) * setting.runtime_bytes)


def _high_bytes(setting: Setting, loads: list[Load], is_alone: bool, *, is_traced: bool) -> int:
    factor = 1.0 if is_traced else HIGH_FACTOR
    tensors_bytes = max(load.total_bytes + (factor - 1) * load.activations_bytes for load in loads)
    worst_bytes = TRACED_HIGH * (tensors_bytes + setting.buffers_bytes) * _worst_fragmentation(setting)
    return round(worst_bytes) + _runtime_range(setting)[1] + (0 if is_alone else _worst_communicator_bytes(setting))


def _worst_fragmentation(setting: Setting) -> float:
    if setting.kind is DeviceKind.CPU:
        return setting.constants.fragmentation
    is_fitted = setting.constants.fitted_from > 0
    return setting.constants.fragmentation + FITTED_SPREAD if is_fitted else WORST_FRAGMENTATION


def _worst_communicator_bytes(setting: Setting) -> int:
    if setting.kind is DeviceKind.CPU or setting.constants.fitted_from > 0:
        return setting.constants.communicator_bytes
    return WORST_COMMUNICATOR_BYTES
