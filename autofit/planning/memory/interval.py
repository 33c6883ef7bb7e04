"""Between which bytes the true peak of a rank's device lies."""

from __future__ import annotations

from collections.abc import Sequence

from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Strategy
from autofit.planning.prior_constants import beside_tensors, context
from autofit.planning.setting import Setting

from .closed_activations import HIGH_FACTOR
from .load import Load

HEADROOM = 0.03
"""The share of the device's memory that is kept free: a training meets more shapes than a probe, and its allocator
breaks up. Peaks of full runs, with their last save, lay up to 2.4 % above their probes' (tiny Llama, two CPU ranks); a
probe at 99.6 % of the limit trained four steps and ran out of memory in the fifth."""

RUNTIME_SPREAD = 0.15
"""How far that may err which a process holds beside its tensors, which grows with the kernels that it meets: 495 to 510
MB on CPU ranks where 500 were expected, and up to 60 MB more with many widths of rows. A GPU's, before any trial, has a
range of its own."""

LATE_KERNELS_BYTES = 150_000_000
"""What kernels of a GPU take at most, beyond the range of the context, that are loaded when they are first needed: an
H200 loaded 155 MB for one step, and 230 in trainings (benchmarks/gpu_check.py and gpu_suite.py, 2026-11-27)."""

TRACED_LOW, TRACED_HIGH = 0.97, 1.03
"""The factors of the tensors' bytes between which the truth lies, from benchmarks/memory_error.py: real peaks lay
between these times the prediction."""

GATHERED_LOW = 0.92
"""The lower one under ZeRO-3 on a GPU: how much is gathered at one time is less certain, and was counted to be up to
8 % below the prediction (benchmarks/memory_error.py --device counted); trials narrow it. Where nothing is gathered
ahead it is as certain as anything."""

FITTED_SPREAD = 0.02
"""How far the next fragmentation may lie above those that were fitted. Known error: with room to spare it was up to
0.16 above the median of 14 on an H200 (benchmarks/results/2026-11-27-gpu-nvidia-h200.json)."""

WORST_NETWORK_BYTES = 1_000_000_000
"""What it may take more for several nodes. Not measured: some 6 MiB for each of up to 32 channels, to and from the
neighbours in its rings and trees (NCCL's NCCL_BUFFSIZE of 4 MiB and the buffers of its other protocols)."""


def low_bytes(strategy: Strategy, setting: Setting, loads: Sequence[Load], *, is_traced: bool) -> int:
    """The least that the peak can be. Without a trace only what lasts is certain; nothing is lost between tensors, and
    the communicator may be small."""
    certain = [load.total_bytes - (0 if is_traced else load.activations_bytes) for load in loads]
    return _runtime_range(setting)[0] + round(_low_factor(strategy, setting) * max(certain))


def _low_factor(strategy: Strategy, setting: Setting) -> float:
    is_known = setting.kind is DeviceKind.CPU or setting.constants.fitted_from > 0 or strategy.rung.optimizer.is_fused
    return GATHERED_LOW if strategy.rung.zero_stage >= 3 and not is_known else TRACED_LOW


def high_bytes(strategy: Strategy, setting: Setting, loads: Sequence[Load], is_alone: bool, *, is_traced: bool) -> int:
    """The most that the peak can be."""
    factor = 1.0 if is_traced else HIGH_FACTOR
    tensors_bytes = max(load.total_bytes + (factor - 1) * load.activations_bytes for load in loads)
    worst_bytes = TRACED_HIGH * (tensors_bytes + setting.buffers_bytes) * worst_fragmentation(strategy, setting)
    return round(worst_bytes) + beside_range(setting, is_alone=is_alone)[1]


def beside_range(setting: Setting, *, is_alone: bool) -> tuple[int, int]:
    """The least and the most bytes that lie beside torch's allocator: the runtime, and a communicator where a rank is
    not alone."""
    least_bytes, most_bytes = _runtime_range(setting)
    return least_bytes, most_bytes + (0 if is_alone else _worst_communicator_bytes(setting))


def worst_fragmentation(strategy: Strategy, setting: Setting) -> float:
    """The most that the allocator reserves, by what it has given out; trials narrow it."""
    if setting.kind is DeviceKind.CPU:
        return setting.constants.fragmentation
    if setting.constants.fitted_from > 0:
        return setting.constants.fragmentation + FITTED_SPREAD
    beside = beside_tensors(setting.device)
    return beside.worst_gathered_fragmentation if strategy.rung.zero_stage >= 3 else beside.worst_fragmentation


def _runtime_range(setting: Setting) -> tuple[int, int]:
    """The least and the most that the runtime takes (bytes)."""
    if setting.kind is DeviceKind.CUDA and setting.known_constants is None:
        known = context(setting.device)
        return known.least_bytes, known.most_bytes + LATE_KERNELS_BYTES
    return round((1 - RUNTIME_SPREAD) * setting.runtime_bytes), round((1 + RUNTIME_SPREAD) * setting.runtime_bytes)


def _worst_communicator_bytes(setting: Setting) -> int:
    if setting.kind is DeviceKind.CPU or setting.constants.fitted_from > 0:
        return setting.constants.communicator_bytes
    has_network = len(setting.hardware.nodes) > 1
    return beside_tensors(setting.device).worst_communicator_bytes + (WORST_NETWORK_BYTES if has_network else 0)
