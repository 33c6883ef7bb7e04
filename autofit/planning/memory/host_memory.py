"""Predicted memory of one node's host: every rank's process, the weights on their way, and what is offloaded."""

from __future__ import annotations

from autofit.domain.estimate import HostEstimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.strategy import Strategy
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

from .states import model_states

PROCESS_BYTES = {DeviceKind.CUDA: 1_500_000_000, DeviceKind.CPU: 350_000_000}
"""Anonymous memory of one rank with torch, transformers, DeepSpeed and trl loaded, before any tensor. CPU: measured
with torch 2.13. CUDA: a prior from the size of its libraries' own data; not measured."""


def host_estimate(strategy: Strategy, setting: Setting, tensors_bytes: int) -> HostEstimate:
    """The host's memory at the worst of two moments: every rank has read the whole model (`from_pretrained`, under
    ZeRO-3 too), or a checkpoint is written beside what is offloaded. Where a rank's device is the host, its tensors
    (`tensors_bytes` at their peak) count as offloaded.

    Copies for a save: one on every rank below ZeRO-3 (accelerate 1.x), one on the first rank with it. Frozen weights
    are copied too.
    """
    ranks = setting.ranks_per_node
    runtime_bytes = ranks * PROCESS_BYTES[setting.kind]
    width = element_bytes(strategy.rung.dtype)
    read_bytes = ranks * width * setting.shape.parameter_count
    if setting.kind is DeviceKind.CPU:
        return HostEstimate(runtime_bytes, max(0, read_bytes - ranks * tensors_bytes), ranks * tensors_bytes)
    writers = ranks if strategy.rung.zero_stage < 3 else 1
    written_bytes = writers * width * parameters(strategy.rung, setting).whole_count
    kept_bytes = ranks * model_states(strategy, setting).offloaded_bytes
    if read_bytes > written_bytes + kept_bytes:
        return HostEstimate(runtime_bytes, read_bytes)
    return HostEstimate(runtime_bytes, written_bytes, kept_bytes)
