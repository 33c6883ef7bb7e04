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
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.fused_update import CHUNK_ELEMENTS
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


UPDATE_KERNELS = {Optimizer.LOMO: 14, Optimizer.ADALOMO: 50}
"""Kernels that an update in the backward pass starts for each chunk of a parameter (worker/fused_update/)."""


def fused_update_s(strategy: Strategy, setting: Setting) -> float:
    """Seconds of all updates in the backward pass; 0 where there are none."""
    rung = strategy.rung
    if not rung.optimizer.is_fused:
        return 0.0
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
    return GRADIENT_S * parameters(rung, setting).trained_tensor_count if rung.zero_stage == 2 else 0.0


def _module_count(strategy: Strategy, setting: Setting) -> int:
    """Modules with parameters of their own, adapters' two among them; Llama's."""
    adapters = parameters(strategy.rung, setting).trained_tensor_count if strategy.rung.method is Method.LORA else 0
    return LAYER_MODULES * setting.shape.layer_count + adapters


def _launched_s(each_s: float, setting: Setting) -> float:
    return each_s + (0.0 if setting.kind is DeviceKind.CPU else LAUNCH_S)
