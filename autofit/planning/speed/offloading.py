"""What offload costs: copies between device and host, and Adam on the host, as DeepSpeed 0.19.8 has them, and the
copies of what goes into layers, as transformers 5.23 has them."""

from __future__ import annotations

from collections.abc import Mapping

from autofit.domain.hardware import Rates
from autofit.domain.knobs.dtype import FP32_BYTES, Dtype, element_bytes
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Strategy
from autofit.planning.memory.closed_activations import checkpointed_layers, input_bytes
from autofit.planning.memory.states import kept_count, offload_of, trained_count, whole_count
from autofit.planning.reference import forward_passes
from autofit.planning.setting import Setting

from .communication import collectives_s, exposed_s, second_gather_share
from .compute import MicroStepSeconds
from .rates import adam_parameters_per_s
from .work import typical_tokens

PINNED_EFFICIENCY = 0.8
"""Copies from and to pinned memory by the link's peak: some 25 of PCIe 4.0's 32 GB/s, 12 of PCIe 3.0's 16."""

UPLINKS = 4
"""Devices that copy to the host at once without being in each other's way: a node of 8 or 16 has four PCIe switches,
each with one link to the host (DGX-1, DGX-2, DGX A100). The 16 of a DGX-2 attained 3 GB/s each, a quarter of what one
does (Rajbhandari et al., ZeRO-Infinity, 2021, figure 2b)."""

ADAM_BYTES = 28
"""Bytes of a parameter that go through the host's memory: gradient, weight and two moments read, the latter three
written, in fp32. The host's rate is that of DeepSpeed's own Adam."""

HOST_UPDATE_BYTES: Mapping[Optimizer, int] = {Optimizer.ADAMW_8BIT: 100, Optimizer.LION: 40, Optimizer.SGD: 12}
"""The same of those that DeepSpeed has none of its own for: what bitsandbytes and torch take on a CPU, as
`UPDATE_BYTES` has it. Known error: seen on one core alone."""

CLIP_BYTES = 8
"""The gradient read and written once more, to unscale and to clip it."""

UNBOUND_SLOWDOWN = 1.2
"""What it costs that a rank's threads are bound to no cores, as DeepSpeed's launcher starts them: steps took 1.16 and
1.29 times as long on 128 cores (deepspeedai/DeepSpeed, blogs/zenflow-corebinding, and pull request 7474)."""


def offload_s(strategy: Strategy, setting: Setting, rates: Rates, seconds: MicroStepSeconds) -> float:
    """Seconds of one optimizer step that computation does not hide; 0 where nothing is offloaded."""
    link = link_bytes_per_s(setting, rates)
    return _activations_bytes(strategy, setting) / link + _states_s(strategy, setting, rates, seconds, link)


def _activations_bytes(strategy: Strategy, setting: Setting) -> float:
    """Bytes of a step's offloaded activations, down and up again, for which computation waits: both copies stand in its
    own stream (`activation_checkpointing_enable` of transformers 5.23)."""
    if strategy.rung.gradient_checkpointing is not GradientCheckpointing.OFFLOAD:
        return 0.0
    each_bytes = input_bytes(strategy, setting, typical_tokens(strategy, setting))
    return 2 * strategy.gradient_accumulation * checkpointed_layers(strategy.rung, setting) * each_bytes


def _states_s(strategy: Strategy, setting: Setting, rates: Rates, seconds: MicroStepSeconds, link: float) -> float:
    """Seconds for what DeepSpeed offloads.

    Gradients go down in the time of the backward pass, like the collectives. Offloaded parameters go up for each pass,
    and nothing computes while the host takes its step. What the device keeps of the optimizer is neither the host's to
    update nor copied up; its gradients take the same way.

    Known error: against published steps 0.7 to 1.2 of what offload adds (tests/planning/speed/test_offloading.py), if
    the ranks have as many threads as the host has cores; with fewer (one each, as torchrun starts them) the host is
    slower in proportion. Too slow for long rows with offloaded parameters: the thread that starts kernels waits for
    them, but the device may have work left from before, which is not counted.
    """
    if offload_of(strategy.rung, setting) is Offload.NONE:
        return 0.0
    each_s, last_s = (moved / link for moved in _gradient_bytes(strategy, setting))
    beside_s = collectives_s(strategy, setting, rates)[1]

    def added_s(moved_s: float) -> float:
        both_s = exposed_s(beside_s + moved_s, seconds.backward_s, strategy.rung, setting)
        return both_s - exposed_s(beside_s, seconds.backward_s, strategy.rung, setting)

    earlier_s = (strategy.gradient_accumulation - 1) * added_s(each_s)
    return _fetched_bytes(strategy, setting) / link + earlier_s + added_s(last_s) + _step_s(strategy, setting, link)


def link_bytes_per_s(setting: Setting, rates: Rates) -> float:
    """The bandwidth in one direction between a device and pinned memory, while all devices of its node copy."""
    sharing = max(1.0, setting.ranks_per_node / UPLINKS)
    return PINNED_EFFICIENCY * rates.host_link_bytes_per_s / sharing


def _fetched_bytes(strategy: Strategy, setting: Setting) -> float:
    """A rank's share of offloaded parameters, for each forward pass and, but for what is kept, each backward pass."""
    if offload_of(strategy.rung, setting) is not Offload.ALL:
        return 0.0
    each = forward_passes(setting.request) + second_gather_share(strategy.rung, setting)
    passes = strategy.gradient_accumulation * each
    return passes * element_bytes(strategy.rung.dtype) * whole_count(strategy.rung, setting) / setting.rank_count


def _gradient_bytes(strategy: Strategy, setting: Setting) -> tuple[float, float]:
    """Bytes of a rank's gradients that are copied in each backward pass but the last, and in the last, whose sums go
    down in fp32.

    ZeRO-3 copies them down and up again each time; ZeRO-2 where it accumulates, but in the first pass only down, which
    is spread over all; ZeRO-1 accumulates on the device.
    """
    width, steps = element_bytes(strategy.rung.dtype), strategy.gradient_accumulation
    copies = {1: 0.0, 2: 2 - 1 / steps if steps > 1 else 0.0, 3: 2.0}[strategy.rung.zero_stage]
    trained = _trained(strategy, setting)
    return copies * width * trained, copies * width * trained + FP32_BYTES * _on_host(strategy, setting)


def _step_s(strategy: Strategy, setting: Setting, link: float) -> float:
    """Seconds after the last backward pass: the host clips, updates and makes the weights as wide as they are trained,
    all as fast as its memory, and they go up if the device keeps them."""
    width, trained = element_bytes(strategy.rung.dtype), _on_host(strategy, setting)
    slowest = min(adam_parameters_per_s(node.host) / len(node.devices) for node in setting.hardware.nodes)
    update_bytes = HOST_UPDATE_BYTES.get(strategy.rung.optimizer, ADAM_BYTES)
    host_bytes = update_bytes + CLIP_BYTES + _narrowing_bytes(strategy) + _checked_bytes(strategy)
    host_s = UNBOUND_SLOWDOWN * host_bytes / ADAM_BYTES * trained / slowest
    is_moved_up = offload_of(strategy.rung, setting) is not Offload.ALL
    return host_s + (width * trained / link if is_moved_up else 0.0)


def _narrowing_bytes(strategy: Strategy) -> int:
    """The fp32 weight read and the trained one written, for which a cache first reads where it will lie."""
    return FP32_BYTES + 2 * element_bytes(strategy.rung.dtype)


def _checked_bytes(strategy: Strategy) -> int:
    """fp16's gradients are looked through for what is infinite and what is no number, each with a byte for its answer
    that is written and read; below ZeRO-3 this happens on the device."""
    return 2 * (2 + 2) if strategy.rung.zero_stage >= 3 and strategy.rung.dtype is Dtype.FP16 else 0


def _trained(strategy: Strategy, setting: Setting) -> float:
    """The number of trained parameters in one rank's share."""
    return trained_count(strategy.rung, setting) / setting.rank_count


def _on_host(strategy: Strategy, setting: Setting) -> float:
    """Those of them that the host updates."""
    return _trained(strategy, setting) - kept_count(setting)
