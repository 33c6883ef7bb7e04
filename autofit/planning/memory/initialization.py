"""What DeepSpeed takes while it starts, on the device and on the host; terms of 0.19.8."""

from __future__ import annotations

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import FP32_BYTES, element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.optimizer_states import master_bytes
from autofit.planning.parameters import parameters
from autofit.planning.plain_torch import communicator_bytes
from autofit.planning.setting import Setting

from .load import Load
from .reference import reference_bytes
from .states import ModelStates, kept_count, offload_of, part_count, whole_count


def initialization(strategy: Strategy, setting: Setting, states: ModelStates) -> Load:
    """The load of the start of stages 1 and 2: the flat copy of the trained parameters beside the old ones, which then
    go; after that a copy of the partition, and copies of it and of its gradient as wide as master weights."""
    rung, part = strategy.rung, part_count(strategy.rung, setting)
    copy_bytes, master = element_bytes(rung.dtype) * part, master_bytes(rung.optimizer)
    is_moved = offload_of(rung, setting) is not Offload.NONE
    partition_bytes = copy_bytes if is_moved else max(copy_bytes + master * part, 2 * master * part)
    flat_bytes = _flat_bytes(rung, setting) if is_flattened_on_device(rung, setting) else 0
    return Load(Phase.INITIALIZE, states.parameters_bytes, buffers_bytes=max(flat_bytes, partition_bytes))


def is_flattened_on_device(rung: Rung, setting: Setting) -> bool:
    """Whether stages 1 and 2 lay out their flat copy on the device: they ask how much of it is free, and go by way of
    the host where that is too little (stage_1_and_2.py). autofit's ranks answer within their cap."""
    if setting.kind is DeviceKind.CPU or rung.zero_stage == 0:
        return True
    scales_bytes = parameters(rung, setting).scales_bytes
    held_bytes = element_bytes(rung.dtype) * whole_count(rung, setting) + scales_bytes + setting.buffers_bytes
    held_bytes += reference_bytes(rung, setting, 0, offload=offload_of(rung, setting))  # which has its engine before
    beside_bytes = setting.runtime_bytes + communicator_bytes(rung, setting)
    return held_bytes + beside_bytes + _flat_bytes(rung, setting) <= setting.device_memory_bytes


def host_bytes(rung: Rung, setting: Setting) -> int:
    """What one rank takes of the host for a moment, not pinned: below stage 3 the trained parameters and their flat
    copy, where the device has no room for it; in stage 3 its partition, which passes through the host to become one
    piece (`defragment` in runtime/zero/utils.py), but for parameters that lie there and for an engine without an
    optimizer."""
    if rung.zero_stage >= 3:
        is_there = offload_of(rung, setting) is Offload.ALL or rung.optimizer.is_fused
        return 0 if is_there else element_bytes(rung.dtype) * part_count(rung, setting)
    return 0 if is_flattened_on_device(rung, setting) else 2 * _flat_bytes(rung, setting)


def pinning_bytes(rung: Rung, setting: Setting) -> int:
    """What one rank has of the host, not pinned, when stage 3 pins a copy of its partition's gradients, the last that
    it pins: the original, and the fp32 weights that are the host's (_setup_for_real_optimizer in
    runtime/zero/stage3.py). The moments come later, and are more but for a small part of an optimizer."""
    if rung.zero_stage < 3 or offload_of(rung, setting) is Offload.NONE:
        return 0
    part = part_count(rung, setting)
    return element_bytes(rung.dtype) * part + FP32_BYTES * (part - kept_count(setting))


def _flat_bytes(rung: Rung, setting: Setting) -> int:
    return element_bytes(rung.dtype) * parameters(rung, setting).trained_count
