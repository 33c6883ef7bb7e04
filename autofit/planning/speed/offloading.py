"""What offload costs: transfers between device and host, and Adam on the host."""

from __future__ import annotations

from autofit.domain.hardware import Rates
from autofit.domain.knobs.dtype import FP32_BYTES, element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Strategy
from autofit.planning.memory.states import offload_of, trained_count, whole_count
from autofit.planning.setting import Setting

from .communication import exposed_s, second_gather_share
from .compute import MicroStepSeconds
from .rates import adam_parameters_per_s

PINNED_EFFICIENCY = 0.8
"""Copies from and to pinned memory by the link's peak: some 25 of PCIe 4.0's 32 GB/s."""

ADAM_BYTES = 28
"""Bytes of a parameter that go through the host's memory: gradient, weight and two moments read, the latter three
written, in fp32."""

HOST_STEP_BYTES = 24
"""Bytes more around Adam: the gradient made fp32 (6), its norm (4), unscaled and clipped (8), the weight made 16 bits
wide (6)."""


def offload_s(strategy: Strategy, setting: Setting, rates: Rates, seconds: MicroStepSeconds) -> float:
    """Seconds of one optimizer step that computation does not hide; 0 without offload.

    As in DeepSpeed 0.19.8: from ZeRO-2 on the gradients of each micro-batch go down, those added up before them go up
    first; at the last one they go down in fp32; the new weights go up. Offloaded parameters go up for each forward and
    backward pass instead, and the thread that starts kernels waits for them. Known error: up to a factor of 5 too fast
    where the ranks' host threads are fewer than the cores or not bound to them.
    """
    offload = offload_of(strategy.rung, setting)
    if offload is Offload.NONE:
        return 0.0
    link = _link_bytes_per_s(setting, rates)
    return _during_s(strategy, setting, link, seconds) + _step_s(strategy, setting, link)


def _during_s(strategy: Strategy, setting: Setting, link_bytes_per_s: float, seconds: MicroStepSeconds) -> float:
    micro_steps, width = strategy.gradient_accumulation, element_bytes(strategy.rung.dtype)
    down_s = width * _trained(strategy, setting) / link_bytes_per_s
    moved_s = down_s * (2 * micro_steps - 1) if strategy.rung.zero_stage >= 2 else 0.0
    gradients_s = exposed_s(moved_s, micro_steps * seconds.backward_s, setting)
    if offload_of(strategy.rung, setting) is not Offload.ALL:
        return gradients_s
    up_s = width * whole_count(strategy.rung, setting) / setting.rank_count / link_bytes_per_s
    return gradients_s + micro_steps * (1 + second_gather_share(strategy, setting)) * up_s


def _step_s(strategy: Strategy, setting: Setting, link_bytes_per_s: float) -> float:
    """Seconds after the last backward pass, in which nothing computes."""
    is_moved_up = offload_of(strategy.rung, setting) is Offload.OPTIMIZER
    each_bytes = FP32_BYTES + (element_bytes(strategy.rung.dtype) if is_moved_up else 0)
    trained = _trained(strategy, setting)
    slowest = min(adam_parameters_per_s(node.host) / len(node.devices) for node in setting.hardware.nodes)
    return each_bytes * trained / link_bytes_per_s + trained / slowest * (1 + HOST_STEP_BYTES / ADAM_BYTES)


def _trained(strategy: Strategy, setting: Setting) -> float:
    """The number of trained parameters in one rank's share."""
    return trained_count(strategy.rung, setting) / setting.rank_count


def _link_bytes_per_s(setting: Setting, rates: Rates) -> float:
    """The bandwidth of one device's link, while all of its node copy at once: the host's memory is shared, and Adam
    shows how fast it is."""
    own = PINNED_EFFICIENCY * rates.host_link_bytes_per_s
    shared = min(ADAM_BYTES * adam_parameters_per_s(node.host) / len(node.devices) for node in setting.hardware.nodes)
    return min(own, shared)
