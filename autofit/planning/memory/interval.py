"""Between which bytes the true peak of a rank's device lies."""

from __future__ import annotations

from collections.abc import Sequence

from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Strategy
from autofit.planning.prior_constants import LATE_KERNELS_BYTES, context
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

WORST_LATE_KERNELS_BYTES = LATE_KERNELS_BYTES + 70_000_000

TRACED_LOW, TRACED_HIGH = 0.97, 1.03
"""The factors of the tensors' bytes between which the truth lies, from benchmarks/memory_error.py: real peaks lay
between these times the prediction."""

GATHERED_LOW = 0.92
"""The lower one under ZeRO-3 on a GPU: how much is gathered at one time is less certain, and was counted to be up to
8 % below the prediction (benchmarks/memory_error.py --device counted); trials narrow it. Where nothing is gathered
ahead it is as certain as anything."""

WORST_FRAGMENTATION = 1.20
"""Reserved by allocated bytes at worst. Known error: small trainings with room to spare reserved up to 1.29 times on an
H200 (benchmarks/results/2026-11-27-gpu-nvidia-h200.json), which they do not need where room is short."""

WORST_GATHERED_FRAGMENTATION = 1.25
"""The same under ZeRO-3, whose gathered parameters and copies of sub-groups, each of its own size, come and go between
what stays: up to 1.23 times in the same recording; in extreme cases more than 30 % of the memory was left when it was
out of it (Rajbhandari et al., ZeRO, 2020, section 3.2)."""

FITTED_SPREAD = 0.08
"""How far the next fragmentation may lie above the median of those that were fitted: half of what it did at most in the
same recording, for where room is short the allocator gives back what it keeps."""

WORST_COMMUNICATOR_BYTES = 1_200_000_000
"""NCCL's buffers at most: of one rank they took 0.92 GB (`prior_constants`)."""

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
    return WORST_GATHERED_FRAGMENTATION if strategy.rung.zero_stage >= 3 else WORST_FRAGMENTATION


def _runtime_range(setting: Setting) -> tuple[int, int]:
    """The least and the most that the runtime takes (bytes)."""
    if setting.kind is DeviceKind.CUDA and setting.known_constants is None:
        known = context(setting.device)
        return known.least_bytes, known.most_bytes + WORST_LATE_KERNELS_BYTES
    return round((1 - RUNTIME_SPREAD) * setting.runtime_bytes), round((1 + RUNTIME_SPREAD) * setting.runtime_bytes)


def _worst_communicator_bytes(setting: Setting) -> int:
    if setting.kind is DeviceKind.CPU or setting.constants.fitted_from > 0:
        return setting.constants.communicator_bytes
    has_network = len(setting.hardware.nodes) > 1
    return WORST_COMMUNICATOR_BYTES + (WORST_NETWORK_BYTES if has_network else 0)
