"""Seconds for which Python and DeepSpeed keep a rank's host busy while its GPU computes.

Measured as CPU time of one thread (EPYC, Python 3.11, torch 2.13, transformers 5.23, PEFT 0.21, DeepSpeed 0.19.8 on a
fake process group), on models so small that a CPU's own kernels take about a microsecond: what a GPU's launch takes
comes on top. Another host's core may be twice as fast, or half.
"""

from __future__ import annotations

import math

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import BF16_MASTERS, Optimizer
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.fused_update import CHUNK_ELEMENTS
from autofit.planning.memory.buffers import overlaps
from autofit.planning.memory.states import part_count
from autofit.planning.optimizer_states import SPAN_ELEMENTS
from autofit.planning.parameters import parameters
from autofit.planning.reference import forward_passes
from autofit.planning.setting import Setting

LAUNCH_S = 4e-6
"""cudaLaunchKernel with the allocator's call and the descriptor of a product, beyond what the CPU's kernel takes."""

FORWARD_KERNEL_S = 10e-6
BACKWARD_KERNEL_S = 5e-6
"""A kernel that a module's Python code starts (measured: 7.8 to 10.5 µs), and one that autograd starts (4.8 to 5.4)."""

CHECKPOINTED_KERNEL_S = 12e-6
"""A kernel with gradient checkpointing, whose hooks see every saved tensor and whose backward pass runs the layers'
Python again: 9.6 to 15 µs in either pass."""

SELECTING_FORWARD_S = 24e-6
SELECTING_BACKWARD_S = 8e-6
"""The same, added to a kernel of either pass, where Python decides of each kernel that a layer starts whether its
output is kept: 24 µs in the forward pass and 26 in what is computed again, a third of the backward pass's kernels (a
Llama of 12 layers, 16 wide, the least CPU time of 25 steps in turns, on the same kind of core)."""

GATHER_S = 0.27e-3
"""What ZeRO-3 does around a module with parameters of its own in a pass: 2.4 ms a layer of Llama, which has nine of
them; the backward pass, which reduces gradients as well, takes twice that."""

LAYER_MODULES = 9
"""Modules with parameters of their own in a Llama layer: ZeRO-3 gathers each by itself."""

GRADIENT_S = 60e-6
"""What ZeRO-2 does with a gradient that comes: 0.54 ms a layer of Llama, which has nine of them."""

REDUCED_S = 40e-6
"""What ZeRO-1 does with each gradient in a step: it is reduced (24 µs) and comes into norm and update (16 µs); a Llama
of 22 layers, 64 wide, with 308 tensors of LoRA, in turns with torch alone."""

STREAMED_S = 150e-6
"""The same, more, where gradients go to a stream of their own beside the backward pass, then at the last micro-step: on
an H200 whose host is a virtual machine 180 µs with all parameters and 300 with LoRA, between trl's steps under ZeRO-2
without `overlap_comm` and autofit's under ZeRO-1 with it (1.1 B parameters, 8,192 tokens, 2026-11-28). That host took
half as long again for other things, and what else the two differ in was not told apart."""

SPAN_S = 0.15e-3
"""A call of torchao's compiled update, for each span of a tensor; on that H200's host 0.33 ms."""


UPDATE_KERNELS = {Optimizer.LOMO: 14, Optimizer.ADALOMO: 50}
"""Kernels that an update in the backward pass starts for each chunk of a parameter (worker/fused_update/)."""


def update_s(strategy: Strategy, setting: Setting) -> float:
    """Seconds of all updates of an optimizer step, in the backward pass or after it, and of what ZeRO-1 without
    overlap does with the gradients before them."""
    rung = strategy.rung
    if rung.optimizer.is_fused:
        return _fused_update_s(strategy, setting)
    is_reduced = rung.zero_stage == 1 and not overlaps(rung, setting)
    seconds = REDUCED_S * parameters(rung, setting).trained_tensor_count if is_reduced else 0.0
    if rung.optimizer in BF16_MASTERS and setting.kind is not DeviceKind.CPU:
        seconds += SPAN_S * math.ceil(part_count(rung, setting) / SPAN_ELEMENTS[setting.kind])
    return seconds


def _fused_update_s(strategy: Strategy, setting: Setting) -> float:
    rung = strategy.rung
    ranks = setting.rank_count if rung.zero_stage >= 3 else 1
    tensors = parameters(rung, setting).trained_tensors
    chunks = sum(count * math.ceil(elements / ranks / CHUNK_ELEMENTS) for elements, count in tensors)
    return chunks * UPDATE_KERNELS[rung.optimizer] * _launched_s(FORWARD_KERNEL_S, setting)


def forward_s(kernel_count: int, strategy: Strategy, setting: Setting) -> float:
    """Seconds of one micro-step's forward passes, of so many kernels together."""
    rung = strategy.rung
    each_s = _kernel_s(rung, FORWARD_KERNEL_S, SELECTING_FORWARD_S)
    passes = forward_passes(setting.request) if rung.zero_stage >= 3 else 0
    hooks_s = passes * GATHER_S * _module_count(strategy, setting)
    return kernel_count * _launched_s(each_s, setting) + hooks_s


def generating_s(kernel_count: int, passes: int, strategy: Strategy, setting: Setting) -> float:
    """Seconds of so many passes that generate, of so many kernels together: nothing is checkpointed in them, and
    ZeRO-3's hooks are taken off a model that is gathered."""
    has_hooks = strategy.rung.zero_stage >= 3 and not setting.gathers_generation
    hooks_s = GATHER_S * _module_count(strategy, setting) * passes if has_hooks else 0.0
    return kernel_count * _launched_s(FORWARD_KERNEL_S, setting) + hooks_s


def backward_s(kernel_count: int, strategy: Strategy, setting: Setting) -> float:
    """Seconds of one micro-step's backward pass, and of what it computes again."""
    rung = strategy.rung
    each_s = _kernel_s(rung, BACKWARD_KERNEL_S, SELECTING_BACKWARD_S)
    return kernel_count * _launched_s(each_s, setting) + _gradient_hooks_s(strategy, setting)


def _kernel_s(rung: Rung, plain_s: float, selecting_s: float) -> float:
    """Seconds of a kernel in a pass in which one of a layer that is not checkpointed takes `plain_s`."""
    share = rung.gradient_checkpointing.share
    added_s = selecting_s if rung.gradient_checkpointing is GradientCheckpointing.SELECTIVE else 0.0
    return share * (CHECKPOINTED_KERNEL_S + added_s) + (1 - share) * plain_s


def _gradient_hooks_s(strategy: Strategy, setting: Setting) -> float:
    rung = strategy.rung
    if rung.zero_stage >= 3:
        passes = 2 + rung.gradient_checkpointing.share
        return passes * GATHER_S * _module_count(strategy, setting)
    count, is_streamed = parameters(rung, setting).trained_tensor_count, overlaps(rung, setting)
    if rung.zero_stage == 2:
        return (GRADIENT_S + STREAMED_S * is_streamed) * count
    if rung.zero_stage == 1 and is_streamed:  # those of the last micro-step alone
        return (REDUCED_S + STREAMED_S) * count / strategy.gradient_accumulation
    return 0.0


def _module_count(strategy: Strategy, setting: Setting) -> int:
    """Modules with parameters of their own, adapters' two among them; Llama's."""
    adapters = parameters(strategy.rung, setting).trained_tensor_count if strategy.rung.method is Method.LORA else 0
    return LAYER_MODULES * setting.shape.layer_count + adapters


def _launched_s(each_s: float, setting: Setting) -> float:
    return each_s + (0.0 if setting.kind is DeviceKind.CPU else LAUNCH_S)
