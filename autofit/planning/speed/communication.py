"""ZeRO's traffic between ranks, and how much of its time computation does not hide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from autofit.domain.hardware import Link, Node, Rates
from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.memory.buffers import bucket_elements, gathered_count, overlaps
from autofit.planning.memory.states import held_as, trained_count, whole_count
from autofit.planning.parameters import parameters
from autofit.planning.plain_torch import is_plain, trained_bytes
from autofit.planning.reference import forward_passes, runs_more_than_once
from autofit.planning.setting import Setting

from .compute import MicroStepSeconds, memory_bytes_per_s, pass_count
from .host_time import LAYER_MODULES

LINK_EFFICIENCY = {Link.NVLINK: 0.75, Link.PCIE: 0.5}
"""Bandwidth of NCCL's large collectives by the link's peak. NVLink: some 230 of 300 GB/s on 8 × A100 and 360 of 450 on
8 × H100 (nccl-tests' bus bandwidth). PCIe: bridges are shared, and GeForce goes through host memory. An unknown link
counts as PCIe."""

NETWORK_EFFICIENCY = 0.8

GLOO_BYTES_PER_S = 1.2e9
"""gloo's bus bandwidth between two ranks of one machine: 1.27 GB/s for 64 MB on a 2-core virtual machine."""

NOMINAL_NETWORK_BYTES_PER_S = 12.5e9
"""Bandwidth of a network of which nobody has said anything: 100 Gb/s."""

COLLECTIVE_S = 30e-6
"""Seconds until the first byte of a collective on 8 GPUs of a node has arrived, the call from Python included."""

DDP_BUCKET_BYTES = 25 * 2**20
"""What DDP reduces at a time (bucket_cap_mb in torch/nn/parallel/distributed.py); its first one, of 1 MiB, is left
out."""

GLOO_COLLECTIVE_S = 0.2e-3
"""The same of gloo between two ranks of one machine: 0.16 to 0.26 ms for an all-reduce of 1,024 elements (2 cores,
torch 2.13), most of it CPU time. ZeRO-2 pays it for each bucket of each micro-batch, ZeRO-1 once a step."""

GATHER_COPIES = 3
REDUCE_COPIES = 2
FUSED_GATHER_COPIES = 1
"""Passes over what is moved in the device's own memory, which computation waits for: gathered weights are written, then
put together by a copy; gradients are copied into the bucket. A single parameter is gathered where it is used
(all_gather_coalesced in runtime/zero/partition_parameters.py), and LOMO reduces its gradient where it lies."""

ADALOMO_SUMS = 2
"""Small all-reduces of a parameter that ZeRO-3 divides: of its squared gradients by rows and columns, and of the
update's."""

HIDDEN_AT_MOST = 0.85
"""The first gather and the last bucket have nothing to hide behind, and NCCL takes multiprocessors while it runs."""


def communication_s(strategy: Strategy, setting: Setting, rates: Rates, seconds: MicroStepSeconds) -> float:
    """Seconds of one optimizer step that computation does not hide; 0 on one rank.

    Volumes in parameters, each (W-1)/W (Rajbhandari et al., ZeRO, 2020, section 7; what is moved when as in DeepSpeed
    0.19.8, whose stages 1 and 2 reduce by all-reduce, twice the volume of the paper's reduce-scatter): stage 1 moves 2T
    at the last micro-batch, stage 2 2T at each, both T after the step; stage 3 at each P forward, P backward but for
    what it kept, and T. Plain torch moves 2T at the last micro-batch (`no_sync` before it), in fp32, and DeepSpeed's
    own stage 0 2T once the last one is over (allreduce_gradients in runtime/engine.py). LOMO and AdaLomo move as much,
    and nothing hides it: nothing is fetched ahead, and an update waits for its gradient. Nothing is fetched ahead
    either where a model has forward passes without gradients; reducing its gradients is then counted too slow.
    """
    if not setting.is_divided:
        return 0.0
    rung = strategy.rung
    traffic = traffic_of(rung, setting, rates)
    forward_s, backward_s = collectives_s(strategy, setting, rates)
    is_unordered = rung.zero_stage >= 3 and runs_more_than_once(rung, setting.request)
    if rung.optimizer.is_fused or is_unordered:
        each_s = forward_s + backward_s
    else:
        each_s = exposed_s(forward_s, seconds.forward_s, rung, setting)
        each_s += exposed_s(backward_s, seconds.backward_s, rung, setting)
    accumulation = strategy.gradient_accumulation
    times = pass_count(strategy, setting) - (accumulation - 1 if rung.zero_stage <= 1 else 0)
    return times * (each_s + traffic.copies_s) + traffic.after_s


def collectives_s(strategy: Strategy, setting: Setting, rates: Rates) -> tuple[float, float]:
    """Seconds of the collectives beside the forward passes and beside the backward one, by themselves; 0 on one
    rank."""
    if not setting.is_divided:
        return 0.0, 0.0
    traffic = traffic_of(strategy.rung, setting, rates)
    if strategy.rung.zero_stage >= 3:
        passes = forward_passes(setting.request)
        return passes * traffic.gather_s, traffic.second_gather_s + traffic.reduce_s
    return 0.0, 0.0 if traffic.is_all_after else 2 * traffic.reduce_s


def exposed_s(moved_s: float, computed_s: float, rung: Rung, setting: Setting) -> float:
    """What is left of `moved_s` beside `computed_s` of computation."""
    if not overlaps(rung, setting):
        return moved_s
    return moved_s - min(HIDDEN_AT_MOST * moved_s, computed_s)


def second_gather_share(rung: Rung, setting: Setting) -> float:
    """The share of the parameters that stage 3 gathers again for the backward pass, having let them go after the
    forward one. LOMO's and AdaLomo's keep none, not even those of a layer that was just computed again."""
    if rung.optimizer.is_fused:
        return 2.0 if rung.gradient_checkpointing.recomputes else 1.0
    return max(0.0, 1 - gathered_count(rung, setting, 0.0) / whole_count(rung, setting))


def traffic_of(rung: Rung, setting: Setting, rates: Rates) -> Traffic:
    """The traffic of a rung's micro-batches, whatever their rows."""
    key = (Traffic, held_as(rung), rung.gradient_checkpointing.recomputes)
    return setting.once(key, lambda: Traffic(rung, setting, rates))


@dataclass(frozen=True)
class Traffic:
    """Seconds that one micro-batch's collectives of a rung take by themselves."""

    rung: Rung
    setting: Setting
    rates: Rates

    @cached_property
    def gather_s(self) -> float:
        """Seconds to gather all parameters, module by module."""
        rung = self.rung
        return self._collective_s(element_bytes(rung.dtype) * whole_count(rung, self.setting), self._gather_calls)

    @cached_property
    def _gather_calls(self) -> int:
        """How often something is gathered in a pass: beside LOMO and AdaLomo only what is not always whole."""
        rung, setting = self.rung, self.setting
        if rung.optimizer.is_fused:
            return parameters(rung, setting).tensors_above(setting.zero_sizes.persistence_threshold)
        return LAYER_MODULES * setting.shape.layer_count

    @cached_property
    def second_gather_s(self) -> float:
        return second_gather_share(self.rung, self.setting) * self.gather_s

    @cached_property
    def reduce_s(self) -> float:
        """Seconds to reduce and scatter the gradients, bucket by bucket; as long as gathering what was trained. LOMO
        and AdaLomo reduce each by itself."""
        rung, setting = self.rung, self.setting
        width = trained_bytes(rung, setting)
        reduced_bytes = width * trained_count(rung, setting)
        if rung.optimizer.is_fused:
            sums = ADALOMO_SUMS if rung.optimizer is Optimizer.ADALOMO and rung.zero_stage >= 3 else 0
            return self._collective_s(reduced_bytes, (1 + sums) * parameters(rung, setting).trained_tensor_count)
        bucket_bytes = DDP_BUCKET_BYTES if is_plain(rung, setting) else width * bucket_elements(setting)
        return self._collective_s(reduced_bytes, math.ceil(reduced_bytes / bucket_bytes))

    @cached_property
    def is_all_after(self) -> bool:
        """Whether nothing moves before the last backward pass is over."""
        rung = self.rung
        return rung.zero_stage == 0 and not is_plain(rung, self.setting)

    @cached_property
    def after_s(self) -> float:
        """Seconds of what moves after the last backward pass: updated weights, or else all gradients."""
        if self.is_all_after:
            return 2 * self.reduce_s
        return self.reduce_s if self.rung.zero_stage in (1, 2) else 0.0

    @cached_property
    def copies_s(self) -> float:
        """Seconds of copies on the device, beside what the links take."""
        rung, setting = self.rung, self.setting
        is_fused = rung.optimizer.is_fused
        reduce_copies, gather_copies = (0, FUSED_GATHER_COPIES) if is_fused else (REDUCE_COPIES, GATHER_COPIES)
        copied_bytes: float = reduce_copies * trained_bytes(rung, setting) * trained_count(rung, setting)
        if rung.zero_stage >= 3:
            gathers = forward_passes(setting.request) + second_gather_share(self.rung, setting)
            copied_bytes += gather_copies * gathers * element_bytes(rung.dtype) * whole_count(rung, setting)
        return copied_bytes / memory_bytes_per_s(setting, self.rates)

    def _collective_s(self, moved_bytes: int, calls: int) -> float:
        """Seconds of an all-gather or reduce-scatter over all ranks; the slowest link of the ring decides."""
        nodes, ranks = self.setting.hardware.nodes, self.setting.rank_count
        inside = [self._link_bytes_per_s(node) for node in nodes if len(node.devices) > 1]
        times_s = [moved_bytes * (ranks - 1) / ranks / min(inside)] if inside else []
        if len(nodes) > 1:
            network = NETWORK_EFFICIENCY * min(
                node.network_bytes_per_s or NOMINAL_NETWORK_BYTES_PER_S for node in nodes
            )
            times_s.append(moved_bytes * (len(nodes) - 1) / len(nodes) / network)
        is_gloo = any(node.link is Link.HOST for node in nodes)
        return max(times_s) + calls * (GLOO_COLLECTIVE_S if is_gloo else COLLECTIVE_S)

    def _link_bytes_per_s(self, node: Node) -> float:
        if node.link is Link.HOST:
            return GLOO_BYTES_PER_S
        own = self.rates.device_link_bytes_per_s if node.link is Link.NVLINK else None
        return LINK_EFFICIENCY[Link.NVLINK if own else Link.PCIE] * (own or self.rates.host_link_bytes_per_s)
