"""What optimizers keep of each trained parameter from step to step: master weight and moments, and what a step adds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import FP32_BYTES, Dtype, element_bytes
from autofit.domain.knobs.optimizer import BF16_MASTERS, Optimizer

ADAM_MOMENTS = 2


@dataclass(frozen=True)
class Moments:
    """The number of fp32 numbers of a parameter: `count`, and one more for each of the `options` that is on."""

    count: int
    options: frozenset[str] = frozenset()


MOMENTS: Mapping[str, Moments] = {
    "adadelta": Moments(2),
    "adagrad": Moments(1),
    "adam": Moments(ADAM_MOMENTS, frozenset({"amsgrad"})),
    "adamax": Moments(2),
    "adamw": Moments(ADAM_MOMENTS, frozenset({"amsgrad"})),
    "asgd": Moments(1),
    "deepspeedcpuadagrad": Moments(1),
    "deepspeedcpuadam": Moments(ADAM_MOMENTS),
    "deepspeedcpulion": Moments(1),
    "fusedadam": Moments(ADAM_MOMENTS),
    "fusedlion": Moments(1),
    "lion": Moments(1),
    "nadam": Moments(2),
    "radam": Moments(2),
    "rmsprop": Moments(1, frozenset({"centered", "momentum"})),
    "rprop": Moments(2),
    "sgd": Moments(0, frozenset({"momentum"})),
}
"""The moments of those that update each element by itself, by their classes and the types of DeepSpeed's configs in
small letters: what their first step puts into `state` (torch 2.13, torch/optim; DeepSpeed 0.19.8, ops/adam,
ops/adagrad, ops/lion). ZeRO keeps it for its flat fp32 shares, so in fp32, and divides it as the master weights. Under
ZeRO-Offload a class of torch keeps as much on the host (DeepSpeed takes it with `zero_force_ds_cpu_optimizer` off), and
DeepSpeed's own classes for the types of its config as well. Known error: with that key on, accelerate puts DeepSpeed's
Adam there."""

OPTIONS = frozenset(option for moments in MOMENTS.values() for option in moments.options)


def moment_count(optimizer: str | None, options: Collection[str]) -> int:
    """The number of fp32 numbers that `optimizer` keeps of a parameter with these of its `OPTIONS` on; Adam's of an
    unknown one."""
    moments = MOMENTS.get((optimizer or "").lower())
    return ADAM_MOMENTS if moments is None else moments.count + len(moments.options.intersection(options))


@dataclass(frozen=True)
class Codes:
    """Moments in few bits: codes of `moment_bits` in all moments of a parameter together, and an fp32 scale of each
    moment for each block of `block_elements`."""

    moment_bits: int
    moment_count: int
    block_elements: int

    def bytes_of(self, element_count: int) -> int:
        blocks = -(-element_count // self.block_elements)
        return self.moment_bits * blocks * self.block_elements // 8 + FP32_BYTES * self.moment_count * blocks


CODES: Mapping[Optimizer, Codes] = {
    Optimizer.ADAMW_8BIT: Codes(16, ADAM_MOMENTS, 256),
    Optimizer.ADAMW_8BIT_BF16: Codes(16, ADAM_MOMENTS, 256),
    Optimizer.ADAMW_4BIT_BF16: Codes(8, ADAM_MOMENTS, 128),
}
"""Blockwise codes: bitsandbytes 0.50 (`init_state` in optim/optimizer.py), torchao 0.18 (optim/subclass_8bit.py and
optim/subclass_4bit.py)."""

WHOLE_BELOW = 4096
"""Elements below which bitsandbytes keeps a tensor's moments in fp32 (`min_8bit_size`). Only plain torch has such
tensors: ZeRO gives it flat shares, which are larger."""

FP32_MOMENTS: Mapping[Optimizer, int] = {
    Optimizer.LION: MOMENTS["lion"].count,
    Optimizer.SGD: MOMENTS["sgd"].count,
    Optimizer.LOMO: 0,
    Optimizer.ADALOMO: 0,
}
"""The fp32 numbers that the others but AdamW keep of a parameter; AdaLomo's factors are not among them."""

STEP_BYTES: Mapping[Optimizer, int] = {Optimizer.ADAMW_8BIT: 5 * FP32_BYTES, Optimizer.LION: 3 * FP32_BYTES}
"""Bytes of an element that the step of an optimizer makes on a CPU beside states and gradients: bitsandbytes makes
whole tensors in fp32 (backends/cpu/ops.py of 0.50), both moments, the gradient, the root and the divisor; for Lion the
gradient, the moment that it mixes with, and the signs. Its kernels for CUDA make nothing, nor do torch's AdamW and
SGD."""

SPAN_ELEMENTS = {DeviceKind.CPU: 2**14, DeviceKind.CUDA: 2**22}
"""Elements that torchao's update takes at a time (worker/training/flat_adamw.py)."""

SPAN_STEP_BYTES = 58
"""Bytes of each of them where the update is not compiled, as on a CPU, and on a GPU for the rest that fills no span:
six numbers in fp32, three of 64-bit codes, and the bounds between which they are rounded. Compiled it made 8 with
moments in 8 bits and 24 in 4 on an H200 (benchmarks/gpu_check.py, 2026-11-27)."""


def master_bytes(optimizer: Optimizer) -> int:
    """The bytes of a parameter's master weight, where there is one."""
    return element_bytes(Dtype.BF16) if optimizer in BF16_MASTERS else FP32_BYTES


def moments_bytes(optimizer: Optimizer, element_count: int, adamw_count: int = ADAM_MOMENTS) -> int:
    """The bytes of the moments of a tensor; `adamw_count` are the fp32 numbers of AdamW, or of what a script builds."""
    if (codes := CODES.get(optimizer)) is not None:
        return codes.bytes_of(element_count)
    return FP32_BYTES * FP32_MOMENTS.get(optimizer, adamw_count) * element_count


def step_bytes(optimizer: Optimizer, kind: DeviceKind, element_count: int) -> int:
    """The bytes that the optimizer's own step makes for a moment of a tensor that it updates at once; the most of
    torchao's on a GPU."""
    if optimizer in BF16_MASTERS:
        return SPAN_STEP_BYTES * min(SPAN_ELEMENTS[kind], element_count)
    return STEP_BYTES.get(optimizer, 0) * element_count if kind is DeviceKind.CPU else 0
