"""Seconds that a device computes for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autofit.domain.hardware import DeviceKind, Rates
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trace import Work
from autofit.planning.gradient_clipping import clipping_norm
from autofit.planning.memory.activations import moments, traced_as
from autofit.planning.memory.states import kept_count, offload_of, part_count, trained_count
from autofit.planning.plain_torch import is_plain, trained_bytes
from autofit.planning.setting import Setting

from . import host_time
from .attention import attention_flop_per_s
from .rates import fitted_speed, peak_flop_per_s
from .work import by_formula, traced, typical_tokens

HALF_FILLED_ELEMENTS = {DeviceKind.CUDA: 2**20, DeviceKind.CPU: 2**12}
"""Elements of a product's result at which half of the device idles: on a GPU half a wave of 128 × 128 tiles on some
hundred multiprocessors, for half a wave is what the last, unfilled one costs on average; on a CPU a small tile."""

BESIDE_UPDATE_BYTES = 12
"""Bytes that a trained parameter of a rank moves for a step beside what the optimizer moves: the norm, the clipping,
the gradient as wide as the master weight and the new 16-bit weight; in plain torch as many, 4 for the norm, and 8 to
clip the gradient where it lies."""

UPDATE_BYTES: Mapping[DeviceKind, Mapping[Optimizer, int]] = {
    DeviceKind.CUDA: {
        Optimizer.ADAMW: 28,
        Optimizer.ADAMW_8BIT: 16,
        Optimizer.ADAMW_8BIT_BF16: 10,
        Optimizer.ADAMW_4BIT_BF16: 8,
        Optimizer.LION: 20,
        Optimizer.SGD: 12,
    },
    DeviceKind.CPU: {
        Optimizer.ADAMW: 68,
        Optimizer.ADAMW_8BIT: 100,
        Optimizer.ADAMW_8BIT_BF16: 700,
        Optimizer.ADAMW_4BIT_BF16: 350,
        Optimizer.LION: 40,
        Optimizer.SGD: 12,
    },
}
"""Bytes that the optimizer itself moves of each parameter. On a GPU each is one pass of a fused kernel that reads
gradient, master weight and moments and writes the latter two: 4 bytes of each in fp32, 2 in bf16, and 2 or 1 of both
moments in codes. Known error: what torchao's compiled update reaches was seen on no GPU. On a CPU torch's plain AdamW
makes a pass of memory for each operation, and the others take as long as so many bytes at a core's nominal 5 GB/s:
20, 140, 70 and 2.5 ns an element (one core, a million elements, bitsandbytes 0.50, torchao 0.18 without a compiler)."""

PLAIN_ADAMW_BYTES = 28
"""AdamW's of plain torch, whose fused one runs on a CPU as well (torch 2.13)."""


FUSED_UPDATE_BYTES = {Optimizer.LOMO: 18, Optimizer.ADALOMO: 94}
ROUNDING_BYTES = {DeviceKind.CUDA: 44, DeviceKind.CPU: 190}
"""The same of LOMO, which reads and writes weight and gradient in a few passes, and of AdaLomo, which makes its update
three times: for the squares, for its size, and to use it; and of rounding to 16 bits by chance, whose bits are drawn,
added and cut off (worker/fused_update/). A CPU draws them in the time of 150 bytes more (torch 2.13, one thread: LOMO
takes 2.5 times as long as torch's plain AdamW, AdaLomo 4.4 times; in fp32 0.1 and 1.3)."""

KEPT_UPDATE_BYTES = 86
"""The same of what the device keeps of an offloaded optimizer: torch's AdamW of one operation after the other
(_multi_tensor_adam in torch/optim/adam.py), 72, the clipping, 8, and the new 16-bit weight, 6; its norm is of the
passing gradient."""


@dataclass(frozen=True)
class MicroStepSeconds:
    forward_s: float
    backward_s: float

    @property
    def total_s(self) -> float:
        return self.forward_s + self.backward_s


def micro_step(strategy: Strategy, setting: Setting, rates: Rates) -> MicroStepSeconds:
    """Seconds of one micro-batch of typical width on the slowest device."""
    on_device = _on_device(strategy, setting, rates)
    forward_s = host_time.forward_s(on_device.forward_kernels, strategy, setting)
    backward_s = host_time.backward_s(on_device.backward_kernels, strategy, setting)
    return MicroStepSeconds(
        _beside(on_device.forward_s, forward_s, setting), _beside(on_device.backward_s, backward_s, setting)
    )


@dataclass(frozen=True)
class _OnDevice:
    """Seconds of a micro-step's passes on the device alone, and the kernels that its host starts for them."""

    forward_s: float
    backward_s: float
    forward_kernels: int
    backward_kernels: int


def _on_device(strategy: Strategy, setting: Setting, rates: Rates) -> _OnDevice:
    key = (_on_device, traced_as(strategy.rung, setting), strategy.micro_batch)
    return setting.once(key, lambda: _find_on_device(strategy, setting, rates))


def _find_on_device(strategy: Strategy, setting: Setting, rates: Rates) -> _OnDevice:
    seen = moments(strategy, setting)
    if seen is None:
        work = by_formula(strategy, setting, typical_tokens(strategy, setting))
    else:
        work = traced(seen, strategy, setting)
    return _OnDevice(
        _device_s(work.forward, strategy, setting, rates),
        _device_s(work.backward, strategy, setting, rates),
        sum(one.kernel_count for one in work.forward),
        sum(one.kernel_count for one in work.backward),
    )


def pass_count(strategy: Strategy, setting: Setting) -> int:
    """Forward and backward passes of an optimizer step. Where LOMO clips, the last micro-batch runs twice: it must know
    the norm of all gradients before it uses the first (Lv et al., 2306.09782, section 3.3.1)."""
    rung, words = strategy.rung, setting.request.training.extra_arguments
    is_measured = rung.optimizer.is_fused and clipping_norm(rung.optimizer, words) > 0
    return strategy.gradient_accumulation + (1 if is_measured else 0)


def accumulation_s(strategy: Strategy, setting: Setting, rates: Rates) -> float:
    """Seconds to add up the gradients of all micro-batches but the first: two reads and a write; from ZeRO-2 on of a
    share."""
    share = setting.rank_count if strategy.rung.zero_stage >= 2 else 1
    each_bytes = 3 * trained_bytes(strategy.rung, setting) * trained_count(strategy.rung, setting) / share
    return (strategy.gradient_accumulation - 1) * each_bytes / memory_bytes_per_s(setting, rates)


def update_s(strategy: Strategy, setting: Setting, rates: Rates) -> float:
    """Seconds of the optimizer's step on the device, or of all updates in the backward pass, with what the host does
    for them; the steps of an optimizer that is offloaded are not in it."""
    if offload_of(strategy.rung, setting) is not Offload.NONE:
        return KEPT_UPDATE_BYTES * kept_count(setting) / memory_bytes_per_s(setting, rates)
    n_bytes = _moved_bytes(strategy.rung, setting) * part_count(strategy.rung, setting)
    moved_s = n_bytes / memory_bytes_per_s(setting, rates)
    return _beside(moved_s, host_time.update_s(strategy, setting), setting)


def _moved_bytes(rung: Rung, setting: Setting) -> int:
    if rung.optimizer.is_fused:
        return FUSED_UPDATE_BYTES[rung.optimizer] + (0 if rung.dtype is Dtype.FP32 else ROUNDING_BYTES[setting.kind])
    return BESIDE_UPDATE_BYTES + update_bytes(rung, setting)


def update_bytes(rung: Rung, setting: Setting) -> int:
    """Bytes of a parameter that the optimizer moves on the device; 0 for one that has no step of its own."""
    if is_plain(rung, setting) and rung.optimizer is Optimizer.ADAMW:
        return PLAIN_ADAMW_BYTES
    return UPDATE_BYTES[setting.kind].get(rung.optimizer, 0)


def memory_bytes_per_s(setting: Setting, rates: Rates) -> float:
    return rates.memory_bytes_per_s * setting.constants.bandwidth_efficiency


def _beside(device_s: float, host_s: float, setting: Setting) -> float:
    """Seconds of a pass: a GPU works while its host starts the next kernels, a CPU does not.

    A trial's time does not tell the two apart, so what was fitted holds for both.
    """
    host_s /= fitted_speed(setting)
    return device_s + host_s if setting.kind is DeviceKind.CPU else max(device_s, host_s)


def _device_s(works: Iterable[Work], strategy: Strategy, setting: Setting, rates: Rates) -> float:
    flop_per_s, bytes_per_s = _matmul_flop_per_s(strategy, setting, rates), memory_bytes_per_s(setting, rates)
    attention_per_s = attention_flop_per_s(strategy, setting, peak_flop_per_s(rates, strategy.rung.dtype))
    device_s = 0.0
    for work in works:
        products_s = (work.matmul_flop - work.attention_flop) / flop_per_s
        device_s += max(products_s, work.matmul_bytes / bytes_per_s) + work.other_bytes / bytes_per_s
        device_s += work.attention_flop / attention_per_s
    return device_s


def _matmul_flop_per_s(strategy: Strategy, setting: Setting, rates: Rates) -> float:
    peak = peak_flop_per_s(rates, strategy.rung.dtype)
    seen = setting.request.sequences(strategy.micro_batch) * typical_tokens(strategy, setting)
    elements = seen * setting.shape.hidden_size
    filled = elements / (elements + HALF_FILLED_ELEMENTS[setting.kind])
    return peak * setting.constants.matmul_efficiency * filled
