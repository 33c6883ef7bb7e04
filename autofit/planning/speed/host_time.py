"""Seconds for which Python and DeepSpeed keep a rank's host busy while its GPU computes.

Measured as CPU time of one thread (EPYC, Python 3.11, torch 2.13, transformers 5.23, PEFT 0.21, DeepSpeed 0.19.8 on a
fake process group), on models so small that a CPU's own kernels take about a microsecond: what a GPU's launch takes
comes on top. Another host's core may be twice as fast, or half.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Work
from autofit.planning.fused_update import CHUNK_ELEMENTS, is_fused
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

LAUNCH_S = 4e-6
"""cudaLaunchKernel with the allocator's call and the descriptor of a product, beyond what the CPU's kernel takes."""

FORWARD_KERNEL_S = 10e-6
BACKWARD_KERNEL_S = 5e-6
"""A kernel that a module's Python code starts (measured: 7.8 to 10.5 µs), and one that autograd starts (4.8 to 5.4)."""

CHECKPOINTED_KERNEL_S = 12e-6
"""A kernel with gradient checkpointing, whose hooks see every saved tensor and whose backward pass runs the layers'
Python again: 9.6 to 15 µs in either pass."""

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
    if not is_fused(rung):
        return 0.0
    ranks = setting.rank_count if rung.zero_stage >= 3 else 1
    tensors = parameters(rung, setting).trained_tensors
    chunks = sum(count * math.ceil(elements / ranks / CHUNK_ELEMENTS) for elements, count in tensors)
    return chunks * UPDATE_KERNELS[rung.optimizer] * _kernel_s(FORWARD_KERNEL_S, setting)


def forward_s(works: Iterable[Work], strategy: Strategy, setting: Setting) -> float:
    """Seconds of one micro-step's forward pass."""
    rung = strategy.rung
    each_s = CHECKPOINTED_KERNEL_S if rung.gradient_checkpointing else FORWARD_KERNEL_S
    hooks_s = GATHER_S * _module_count(strategy, setting) if rung.zero_stage >= 3 else 0.0
    return _kernels_s(works, each_s, setting) + hooks_s


def backward_s(works: Iterable[Work], strategy: Strategy, setting: Setting) -> float:
    """Seconds of one micro-step's backward pass, and of what it computes again."""
    rung = strategy.rung
    each_s = CHECKPOINTED_KERNEL_S if rung.gradient_checkpointing else BACKWARD_KERNEL_S
    return _kernels_s(works, each_s, setting) + _gradient_hooks_s(strategy, setting)


def _gradient_hooks_s(strategy: Strategy, setting: Setting) -> float:
    rung = strategy.rung
    if rung.zero_stage >= 3:
        passes = 3 if rung.gradient_checkpointing else 2
        return passes * GATHER_S * _module_count(strategy, setting)
    return GRADIENT_S * parameters(rung, setting).trained_tensor_count if rung.zero_stage == 2 else 0.0


def _module_count(strategy: Strategy, setting: Setting) -> int:
    """Modules with parameters of their own, adapters' two among them; Llama's."""
    adapters = parameters(strategy.rung, setting).trained_tensor_count if strategy.rung.method is Method.LORA else 0
    return LAYER_MODULES * setting.shape.layer_count + adapters


def _kernels_s(works: Iterable[Work], each_s: float, setting: Setting) -> float:
    return _kernel_s(each_s, setting) * sum(work.kernel_count for work in works)


def _kernel_s(each_s: float, setting: Setting) -> float:
    return each_s + (0.0 if setting.kind is DeviceKind.CPU else LAUNCH_S)
